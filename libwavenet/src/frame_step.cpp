#include "frame_step.h"

#include <algorithm>
#include <cmath>

#include "failure.h"

namespace wavenet {
namespace {

// as in wavenet/frame_model_config.py
constexpr double BUMP_RANGE = 3.5;
constexpr float MIN_LOG_SCALE = -2.5f, MAX_LOG_SCALE = 2.0f, MAX_PITCH_LOG_SCALE = 5.0f;

constexpr int KERNEL_SIZE = FrameModelConfig::KERNEL_SIZE;
constexpr int SOURCE_PARAMETERS = FrameModelConfig::SOURCE_PARAMETERS;
constexpr int BUMPS = FrameModelConfig::BUMPS;
constexpr float BUMPS_PER_DEVIATION = float((BUMPS - 1) / (2 * BUMP_RANGE));

// y [outputs] += x [inputs] times weights [inputs][outputs]. Every sum adds the inputs in order; the loop over the
// outputs is vectorised, and four inputs at a time leave fewer loads and stores of y.
void add_product(const float* weights, const float* x, int inputs, int outputs, float* __restrict y) {
    int i = 0;
    for (; i + 4 <= inputs; i += 4, weights += std::size_t(4) * outputs) {
        const float *const w0 = weights, *const w1 = w0 + outputs, *const w2 = w1 + outputs, *const w3 = w2 + outputs;
        const float x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
        for (int o = 0; o < outputs; ++o) y[o] = y[o] + w0[o] * x0 + w1[o] * x1 + w2[o] * x2 + w3[o] * x3;
    }
    for (; i < inputs; ++i, weights += outputs)
        for (int o = 0; o < outputs; ++o) y[o] += weights[o] * x[i];
}

// weights [outputs][inputs], as in the model file -> [inputs][outputs]
void transpose(const float* weights, int outputs, int inputs, float* transposed) {
    for (int o = 0; o < outputs; ++o)
        for (int i = 0; i < inputs; ++i)
            transposed[std::size_t(i) * outputs + o] = weights[std::size_t(o) * inputs + i];
}

LinearLayer linear_layer(const TensorMap& tensors, const std::string& name, int inputs, int outputs, bool bias = true) {
    LinearLayer layer{inputs, outputs, std::vector<float>(std::size_t(inputs) * outputs), {}};
    const auto& weights = frame_tensor(tensors, name + ".weight", layer.weights.size());
    transpose(weights.data(), outputs, inputs, layer.weights.data());
    if (bias) layer.bias = frame_tensor(tensors, name + ".bias", outputs);
    else layer.bias.assign(outputs, 0.0f);
    return layer;
}

// tanh(a) sigmoid(b)
float gate(float a, float b) {
    const double u = std::exp(-2 * double(std::clamp(a, -40.0f, 40.0f))), v = std::exp(-double(std::max(b, -80.0f)));
    return float((1 - u) / ((1 + u) * (1 + v)));
}

void relu(std::vector<float>& x) {
    for (float& value : x) value = std::max(value, 0.0f);
}

// values[0], values[stride], ...: logits -> log weights
void log_softmax(float* values, int count, int stride) {
    float largest = values[0], sum = 0;
    for (int i = 1; i < count; ++i) largest = std::max(largest, values[i * stride]);
    for (int i = 0; i < count; ++i) sum += exponential(values[i * stride] -= largest);
    const float log_sum = float(std::log(double(sum)));
    for (int i = 0; i < count; ++i) values[i * stride] -= log_sum;
}

}  // namespace

float exponential(float x) { return float(std::exp(double(x))); }
float sigmoid(float x) { return float(1 / (1 + std::exp(-double(x)))); }

const std::vector<float>& frame_tensor(const TensorMap& tensors, const std::string& name, std::size_t size) {
    const auto found = tensors.find("frame_model." + name);
    if (found == tensors.end()) fail("the model has no tensor frame_model." + name);
    if (found->second.size() != size) fail("frame_model." + name + " has another size than the configuration");
    return found->second;
}

void LinearLayer::apply(const float* x, float* y) const {
    std::copy(bias.begin(), bias.end(), y);
    add_product(weights.data(), x, inputs, outputs, y);
}

FrameModelNetwork::FrameModelNetwork(const FrameModelConfig& config, int voices, const TensorMap& tensors)
    : config(config), voices_(voices) {
    const int residual = config.residual_channels, gates = 2 * residual, skip = config.skip_channels;
    const int layers = config.layers(), dimensions = config.dimensions();
    input_ = linear_layer(tensors, "input", dimensions, residual);
    std::size_t queue = 0;
    for (int index = 0; index < layers; ++index) {
        const std::string name = "layers." + std::to_string(index);
        const std::size_t tap = std::size_t(gates) * residual;
        const auto& taps = frame_tensor(tensors, name + ".dilated.weight", KERNEL_SIZE * tap);
        const auto& bias = frame_tensor(tensors, name + ".dilated.bias", gates);
        Layer layer;
        layer.dilated = {2 * residual, gates, std::vector<float>(KERNEL_SIZE * tap), {}};
        for (int t = 0; t < KERNEL_SIZE; ++t)
            transpose(taps.data() + t * tap, gates, residual, layer.dilated.weights.data() + t * tap);
        gate_bias_.insert(gate_bias_.end(), bias.begin(), bias.end());
        if (index < layers - 1) layer.residual = linear_layer(tensors, name + ".residual", residual, residual);
        layer.dilation = std::size_t(1) << index % config.layers_per_cycle;
        layer.queue = queue;
        queue += layer.dilation * residual;
        layers_.push_back(std::move(layer));
    }
    skip_ = linear_layer(tensors, "skip", layers * residual, skip);
    source_hidden_ = linear_layer(tensors, "source.hidden", skip, skip);
    source_output_ = linear_layer(tensors, "source.output", skip, config.source_mixtures * SOURCE_PARAMETERS);
    shape_hidden_ = linear_layer(tensors, "shape.hidden", skip, skip);
    shape_source_ = linear_layer(tensors, "shape.source", SOURCE + BUMPS, skip, false);
    shape_output_ = linear_layer(tensors, "shape.output", skip, config.mixtures * (1 + 2 * config.components));
    if (voices) speakers_ = frame_tensor(tensors, "speaker.weight", std::size_t(voices) * gate_bias_.size());
    prediction_ = frame_tensor(tensors, "prediction", std::size_t(config.prediction_order) * dimensions);
    deviation_ = frame_tensor(tensors, "deviation", dimensions);
    for (const float deviation : deviation_) log_deviation_.push_back(float(std::log(double(deviation))));
    for (int bump = 0; bump < BUMPS; ++bump)
        centres_.push_back(float(bump == BUMPS - 1 ? BUMP_RANGE : -BUMP_RANGE + bump * (2 * BUMP_RANGE / (BUMPS - 1))));
}

FrameState FrameModelNetwork::new_state() const {
    const int residual = config.residual_channels, dimensions = config.dimensions();
    FrameState state;
    std::size_t queues = 0;
    for (const Layer& layer : layers_) queues += layer.dilation * residual;
    state.queues.resize(queues);
    state.frames.resize(std::size_t(config.prediction_order) * dimensions);
    state.h.resize(config.skip_channels);
    state.predicted.resize(dimensions);
    state.source.resize(config.source_mixtures);
    state.log_weights.resize(config.mixtures);
    state.means.resize(std::size_t(config.mixtures) * config.components);
    state.log_scales.resize(state.means.size());
    state.taps.resize(2 * residual);
    state.gates.resize(2 * residual);
    state.gated.resize(layers_.size() * residual);
    state.hidden.resize(config.skip_channels);
    state.outputs.resize(std::max({residual, source_output_.outputs, shape_output_.outputs}));
    return state;
}

void FrameModelNetwork::reset(FrameState& state) const {
    state.step = 0;
    std::fill(state.queues.begin(), state.queues.end(), 0.0f);
    std::fill(state.frames.begin(), state.frames.end(), 0.0f);
}

void FrameModelNetwork::gate_biases(const float* shares, float* biases) const {
    std::copy(gate_bias_.begin(), gate_bias_.end(), biases);
    if (voices_) add_product(speakers_.data(), shares, voices_, int(gate_bias_.size()), biases);
}

void FrameModelNetwork::advance(FrameState& state, const float* gate_biases, const float* frame) const {
    const int residual = config.residual_channels, dimensions = config.dimensions();
    float *const past = state.taps.data(), *const x = past + residual, *const a = state.gates.data();
    input_.apply(frame, x);
    float* z = state.gated.data();
    for (const Layer& layer : layers_) {
        float* const slot = state.queues.data() + layer.queue + state.step % layer.dilation * residual;
        std::copy(slot, slot + residual, past);
        std::copy(x, x + residual, slot);
        std::copy(gate_biases, gate_biases + 2 * residual, a);
        add_product(layer.dilated.weights.data(), past, 2 * residual, 2 * residual, a);
        for (int i = 0; i < residual; ++i) z[i] = gate(a[i], a[residual + i]);
        if (!layer.residual.weights.empty()) {
            layer.residual.apply(z, state.outputs.data());
            for (int i = 0; i < residual; ++i) x[i] += state.outputs[i];
        }
        gate_biases += 2 * residual;
        z += residual;
    }
    skip_.apply(state.gated.data(), state.h.data());
    relu(state.h);
    std::copy_backward(state.frames.begin(), state.frames.end() - dimensions, state.frames.end());
    std::copy(frame, frame + dimensions, state.frames.begin());
    ++state.step;
    for (int d = 0; d < dimensions; ++d) {
        state.predicted[d] = prediction_[d] * state.frames[d];
        for (int order = 1; order < config.prediction_order; ++order)
            state.predicted[d] += prediction_[order * dimensions + d] * state.frames[order * dimensions + d];
    }
    source(state);
}

void FrameModelNetwork::source(FrameState& state) const {
    source_hidden_.apply(state.h.data(), state.hidden.data());
    relu(state.hidden);
    float* const outputs = state.outputs.data();
    source_output_.apply(state.hidden.data(), outputs);
    log_softmax(outputs, config.source_mixtures, SOURCE_PARAMETERS);
    const float* parameters = outputs;
    for (SourceComponent& component : state.source) {
        component.log_weight = parameters[0];
        component.loudness = state.predicted[LOUDNESS] + deviation_[LOUDNESS] * parameters[1];
        component.loudness_log_scale =
            log_deviation_[LOUDNESS] + std::clamp(parameters[2], MIN_LOG_SCALE, MAX_LOG_SCALE);
        component.pitch = state.predicted[PITCH] + deviation_[PITCH] * parameters[3];
        component.pitch_log_scale =
            log_deviation_[PITCH] + std::clamp(parameters[4], MIN_LOG_SCALE, MAX_PITCH_LOG_SCALE);
        component.voicing_logit = parameters[5];
        parameters += SOURCE_PARAMETERS;
    }
}

void FrameModelNetwork::shape(FrameState& state, const float* source) const {
    float inputs[SOURCE + BUMPS];
    std::copy(source, source + SOURCE, inputs);
    for (int bump = 0; bump < BUMPS; ++bump) {
        const float distance = (source[PITCH] - centres_[bump]) * BUMPS_PER_DEVIATION;
        inputs[SOURCE + bump] = exponential(-0.5f * (distance * distance)) * source[VOICING];
    }
    shape_hidden_.apply(state.h.data(), state.hidden.data());
    add_product(shape_source_.weights.data(), inputs, SOURCE + BUMPS, config.skip_channels, state.hidden.data());
    relu(state.hidden);
    float* const outputs = state.outputs.data();
    shape_output_.apply(state.hidden.data(), outputs);
    log_softmax(outputs, config.mixtures, 1);
    std::copy(outputs, outputs + config.mixtures, state.log_weights.begin());
    const float *mean = outputs + config.mixtures, *scale = mean + state.means.size();
    for (std::size_t i = 0, k = SOURCE; i < state.means.size(); ++i) {
        state.means[i] = state.predicted[k] + deviation_[k] * mean[i];
        state.log_scales[i] = log_deviation_[k] + std::clamp(scale[i], MIN_LOG_SCALE, MAX_LOG_SCALE);
        if (++k == std::size_t(config.dimensions())) k = SOURCE;
    }
}

}  // namespace wavenet
