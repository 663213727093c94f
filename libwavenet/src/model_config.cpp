#include "model_config.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

constexpr int MAX_PITCH_TAPS = 9;
constexpr double LOWEST_PITCH = 50, HIGHEST_PITCH = 500;              // Hz
constexpr double ADAPTATION_WINDOW = 0.020, ADAPTATION_HOP = 0.0025;  // seconds
constexpr double RECENT_SHARE = 1.0 / 12;  // of the window, over which the weight falls to the most recent sample
constexpr int PLAIN_TAPS = 3;
constexpr double LOOKAHEAD_SECONDS = 0.05;            // of whole frames, at least one
constexpr std::uint64_t MAX_REFINING_WORK = 1 << 18;  // values of Fourier transforms per sample
constexpr double PI = 3.14159265358979323846;

int rounded(double value) { return int(std::nearbyint(value)); }  // half to even, as in Python

std::uint64_t power_of_two_from(std::uint64_t size) {
    std::uint64_t power = 1;
    while (power < size) power *= 2;
    return power;
}

std::vector<int> doubling_dilations(int cycles, int layers_per_cycle) {
    std::vector<int> dilations;
    for (int layer = 0; layer < cycles * layers_per_cycle; ++layer)
        dilations.push_back(1 << (layer % layers_per_cycle));
    return dilations;
}

std::vector<double> adaptation_weights(int window) {
    const int fall = rounded(RECENT_SHARE * window), rise = window - fall;
    std::vector<double> weights;
    for (int i = 0; i < rise; ++i) weights.push_back(std::sin(PI / 2 * ((i + 0.5) / rise)));
    for (int i = fall; i > 0; --i) weights.push_back(std::sin(PI / 2 * ((i - 0.5) / fall)));
    return weights;
}

void add_frame_network(Shapes& shapes, FrameNetworkKind kind, std::size_t inputs, std::size_t channels) {
    const auto add = [&](const std::string& name, std::size_t taps, std::size_t outputs, std::size_t from) {
        shapes["conditioning.frames." + name + ".weight"] = {taps, outputs, from};
        shapes["conditioning.frames." + name + ".bias"] = {outputs};
    };
    if (kind != FrameNetworkKind::PARALLEL) {
        add("first", PLAIN_TAPS, channels, inputs);
        add("second", PLAIN_TAPS, channels, channels);
        return;
    }
    const std::size_t branch = channels / 4;
    add("point", 1, branch, inputs);
    for (const char* name : {"rate_1", "rate_2", "rate_4", "rate_8", "rate_16"}) add(name, PLAIN_TAPS, branch, inputs);
    add("pooled", 1, branch, inputs);
    add("joined", 1, channels, 7 * branch);
}

// The tensors of a stack of residual layers with one tensor of taps [K, 2G, R] each.
void add_layers(Shapes& shapes, std::size_t layers, std::size_t taps, std::size_t residual, std::size_t gate) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
        const std::string name = "layers." + std::to_string(layer);
        shapes[name + ".dilated.weight"] = {taps, 2 * gate, residual};
        shapes[name + ".dilated.bias"] = {2 * gate};
        if (layer + 1 == layers) break;  // the residual path ends before the last layer's output
        shapes[name + ".residual.weight"] = {residual, gate};
        shapes[name + ".residual.bias"] = {residual};
    }
}

Shapes network_shapes(const ModelConfig& c) {
    const std::size_t residual = c.residual_channels, gate = c.gate_channels, skip = c.skip_channels;
    const std::size_t head = c.head_channels, outputs = c.output_channels(), layers = c.layers();
    Shapes shapes;
    shapes["embedding.weight"] = {std::size_t(c.input_channels()), residual};
    add_layers(shapes, layers, c.kernel_size, residual, gate);
    shapes["skip.weight"] = {skip, layers * gate};
    shapes["skip.bias"] = {skip};
    shapes["head.hidden.weight"] = {head, skip};
    shapes["head.hidden.bias"] = {head};
    shapes["head.output.weight"] = {outputs, head};
    shapes["head.output.bias"] = {outputs};
    if (!c.speakers.empty()) {
        shapes["conditioning.speaker.weight"] = {c.speakers.size(), std::size_t(c.speaker_channels)};
        shapes["conditioning.from_speaker.weight"] = {layers * 2 * gate, std::size_t(c.speaker_channels)};
    }
    if (c.features) {
        add_frame_network(shapes, c.frame_network, c.features->bands, c.frame_channels);
        shapes["conditioning.from_frames.weight"] = {layers * 2 * gate, std::size_t(c.frame_channels)};
    }
    return shapes;
}

}  // namespace

float MelConfig::silence() const { return float(std::log(floor)); }

int MelConfig::lookahead() const { return std::max(1, rounded(LOOKAHEAD_SECONDS * sample_rate / hop)); }

bool MelConfig::refines_in_time(int iterations) const {
    const std::uint64_t inside = lookahead(), transforms = (iterations + inside - 1) / inside * (inside + window / hop);
    return transforms * fft <= MAX_REFINING_WORK * hop;
}

std::pair<int, int> MelConfig::pitch_periods() const {
    const int shortest = std::max(MAX_PITCH_TAPS, rounded(sample_rate / HIGHEST_PITCH));
    return {shortest, std::max(shortest, std::min(rounded(sample_rate / LOWEST_PITCH), fft / 2))};
}

std::vector<int> FrameModelConfig::dilations() const { return doubling_dilations(cycles, layers_per_cycle); }

int FrameModelConfig::receptive_field() const {
    return std::max(1 + (KERNEL_SIZE - 1) * cycles * ((1 << layers_per_cycle) - 1), prediction_order);
}

Shapes FrameModelConfig::shapes(const MelConfig& mel, std::size_t speakers) const {
    const std::size_t residual = residual_channels, skip = skip_channels, shape = components, bands = mel.bands;
    const std::size_t encoded = dimensions(), voices = std::max<std::size_t>(1, speakers);
    Shapes shapes;
    shapes["input.weight"] = {residual, encoded};
    shapes["input.bias"] = {residual};
    add_layers(shapes, layers(), KERNEL_SIZE, residual, residual);
    shapes["skip.weight"] = {skip, layers() * residual};
    shapes["skip.bias"] = {skip};
    const auto add_head = [&](const std::string& name, std::size_t outputs) {
        shapes[name + ".hidden.weight"] = {skip, skip};
        shapes[name + ".hidden.bias"] = {skip};
        shapes[name + ".output.weight"] = {outputs, skip};
        shapes[name + ".output.bias"] = {outputs};
    };
    add_head("source", std::size_t(source_mixtures) * SOURCE_PARAMETERS);
    add_head("shape", mixtures * (1 + 2 * shape));
    shapes["shape.source.weight"] = {skip, SOURCE + BUMPS};
    if (speakers) shapes["speaker.weight"] = {speakers, layers() * 2 * residual};
    shapes["prediction"] = {std::size_t(prediction_order), encoded};
    shapes["deviation"] = {encoded};
    shapes["coding.mean"] = {voices, bands};
    shapes["coding.analysis"] = {bands, shape};
    shapes["coding.synthesis"] = {shape, bands};
    shapes["coding.loudness"] = {voices, 2};
    shapes["coding.pitch"] = {voices, 2};
    shapes["coding.limits"] = {2, encoded};
    return shapes;
}

std::vector<int> ModelConfig::dilations() const { return doubling_dilations(cycles, layers_per_cycle); }

int ModelConfig::receptive_field() const {
    return 1 + (kernel_size - 1) * cycles * ((1 << layers_per_cycle) - 1);  // `queue_size` is limited, and so is this
}

std::uint64_t ModelConfig::queue_size() const {
    std::uint64_t slots = 0;
    for (int dilation : dilations()) slots += power_of_two_from(std::uint64_t(kernel_size - 1) * dilation);
    return slots * padded(residual_channels);
}

std::uint64_t ModelConfig::parameters() const {
    std::uint64_t sum = 0;
    for (const auto& [name, shape] : network_shapes(*this)) {
        std::uint64_t product = 1;
        for (std::size_t size : shape) product *= size;
        sum += product;
    }
    return sum;
}

int ModelConfig::output_channels() const {
    if (output == Output::MU_LAW) return MU_LAW_CODES;
    return output == Output::LOGISTIC ? 3 * mixtures : 2;
}

int ModelConfig::input_channels() const {
    if (output == Output::MU_LAW) return MU_LAW_CODES;
    if (!linear_prediction) return 1;        // the previous sample
    return 3 + (features ? pitch_taps : 2);  // backward-adaptive: the logarithms of RMS and gain, too
}

int ModelConfig::adaptation_window() const {
    return backward_adaptive() ? rounded(ADAPTATION_WINDOW * sample_rate) : 0;
}

int ModelConfig::adaptation_hop() const {
    return backward_adaptive() ? std::max(1, rounded(ADAPTATION_HOP * sample_rate)) : 0;
}

int ModelConfig::pitch_reach() const {
    return pitch_taps && features ? features->pitch_periods().second + pitch_taps / 2 : 0;
}

Shapes ModelConfig::shapes() const {
    Shapes shapes = network_shapes(*this);
    if (frame_model && features)
        for (auto& [name, shape] : frame_model->shapes(*features, speakers.size()))
            shapes["frame_model." + name] = shape;
    return shapes;
}

Config ModelConfig::engine_config() const {
    Config config{};
    config.kernel_size = kernel_size;
    config.residual = residual_channels;
    config.gate = gate_channels;
    config.skip = skip_channels;
    config.head = head_channels;
    config.output = output;
    config.components = components();
    config.input_channels = input_channels();
    config.prediction_order = linear_prediction;
    config.pitch_taps = pitch_taps;
    config.pitch_reach = pitch_reach();
    config.adaptation_hop = adaptation_hop();
    config.adaptation_weights = adaptation_weights(adaptation_window());
    config.conditioned = conditioned();
    config.hop = features ? features->hop : 0;
    config.silence = output == Output::MU_LAW ? MU_LAW_CODES / 2 : 0;
    config.output_channels = output_channels();
    config.dilations = dilations();
    return config;
}

}  // namespace wavenet
