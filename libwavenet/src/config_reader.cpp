// Reads a configuration: the same fields, defaults, ranges and conditions as the dataclasses in wavenet/config.py,
// mel_config.py, frame_model_config.py and sampling_config.py, in the same order.
#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "json_fields.h"
#include "model_config.h"

namespace wavenet {
namespace {

constexpr std::uint64_t MAX_PARAMETERS = std::uint64_t(1) << 31;
constexpr std::uint64_t MAX_QUEUE_SIZE = std::uint64_t(1) << 26;
constexpr double MAX_DOUBLE = std::numeric_limits<double>::max();

void read(const JsonFields& fields, const char* name, int& value, int low, int high) {
    if (fields.given(name)) value = fields.integer(name, low, high);
}

void read(const JsonFields& fields, const char* name, double& value, double low, double high) {
    if (fields.given(name)) value = fields.real(name, low, high);
}

MelConfig read_mel(std::string_view json, const std::string& source, int sample_rate) {
    const JsonFields fields(json, source, "features",
                            {"sample_rate", "window", "fft", "hop", "bands", "low", "high", "scale", "area", "power",
                             "floor", "mean", "deviation"},
                            "rate", "sample_rate");
    MelConfig mel;
    mel.sample_rate = sample_rate;
    mel.high = std::min(mel.high, sample_rate / 2.0);
    read(fields, "sample_rate", mel.sample_rate, 1'000, 384'000);
    read(fields, "fft", mel.fft, 16, 65'536);
    const auto limited = [&](const char* name, int& value, int low) {
        read(fields, name, value, low, mel.fft);
        if (value > mel.fft) fields.refuse(name, "must be at most fft, " + std::to_string(mel.fft));
    };
    limited("window", mel.window, 4);
    limited("hop", mel.hop, 1);
    read(fields, "bands", mel.bands, 1, 1'024);
    read(fields, "high", mel.high, 1.0, mel.sample_rate / 2.0);
    if (mel.high > mel.sample_rate / 2.0) fields.refuse("high", "must be at most half the sample rate");
    read(fields, "low", mel.low, 0.0, mel.high - 1);
    if (fields.given("scale")) mel.slaney = fields.choice("scale", {"slaney", "htk"}) == 0;
    if (fields.given("area")) mel.area = fields.boolean("area");
    read(fields, "power", mel.power, 0.1, 4.0);
    read(fields, "floor", mel.floor, 1e-30, 1.0);
    read(fields, "mean", mel.mean, -1e3, 1e3);
    read(fields, "deviation", mel.deviation, 1e-3, 1e3);
    return mel;
}

FrameModelConfig read_frame_model(std::string_view json, const std::string& source) {
    const JsonFields fields(json, source, "frame_model",
                            {"cycles", "layers_per_cycle", "residual_channels", "skip_channels", "components",
                             "mixtures", "source_mixtures", "prediction_order"});
    FrameModelConfig model;
    read(fields, "cycles", model.cycles, 1, 16);
    read(fields, "layers_per_cycle", model.layers_per_cycle, 1, 16);
    read(fields, "residual_channels", model.residual_channels, 1, 4'096);
    read(fields, "skip_channels", model.skip_channels, 1, 4'096);
    read(fields, "components", model.components, 1, 1'024);
    read(fields, "mixtures", model.mixtures, 1, 256);
    read(fields, "source_mixtures", model.source_mixtures, 1, 256);
    read(fields, "prediction_order", model.prediction_order, 1, 16);
    return model;
}

// Unlike in other tables, null is accepted for the options without a default.
SamplingConfig read_sampling(const JsonFields& fields) {
    SamplingConfig sampling;
    read(fields, "temperature", sampling.temperature, 0, MAX_DOUBLE);
    if (!fields.nothing("voiced_temperature"))
        sampling.voiced_temperature = fields.real("voiced_temperature", 0, MAX_DOUBLE);
    if (!fields.nothing("top_k")) {
        const JsonNumber k = fields.number("top_k");
        if (!k.integer || k.value < 1) fields.refuse_value("top_k", "must be an integer from 1");
        sampling.top_k = int(std::min(k.value, double(MU_LAW_CODES)));  // more than there are codes: all of them
    }
    if (!fields.nothing("top_p")) {
        sampling.top_p = fields.real("top_p", 0, 1);
        if (sampling.top_p == 0) fields.refuse_value("top_p", "must be above 0");
    }
    read(fields, "refine", sampling.refine, 0, 1'000);
    read(fields, "particles", sampling.particles, 0, 1'024);
    read(fields, "frame_temperature", sampling.frame_temperature, 0, MAX_DOUBLE);
    if (!fields.nothing("frame_temperature_range"))
        sampling.frame_temperature_range = fields.interval("frame_temperature_range", 0, 10);
    return sampling;
}

// Refuses the options that a model with this output, features and frame model does not have.
void check_sampling(const ModelConfig& config, const JsonFields& fields) {
    const SamplingConfig& sampling = config.sampling;
    if (sampling.top_k && config.output != Output::MU_LAW)
        fields.refuse("top_k", "a 16-bit output has no list of codes to choose from");
    if (!config.features && !std::isnan(sampling.voiced_temperature))
        fields.refuse("voiced_temperature", "this model has no features, from which the pitch is computed");
    for (const auto& [name, value] :
         {std::pair("refine", sampling.refine), std::pair("particles", sampling.particles)}) {
        if (!value) continue;
        if (!config.features) fields.refuse(name, "this model has no features to compare audio with");
        if (!config.features->can_refine()) fields.refuse(name, "needs windows that overlap by half");
    }
    if (config.features && !config.features->refines_in_time(sampling.refine))
        fields.refuse("refine", "takes too long with frames and Fourier transforms of these sizes");
    const auto needs_frame_model = [&](const char* name, bool used) {
        if (used && !config.frame_model) fields.refuse(name, "this model has no frame model, which it is an option of");
    };
    needs_frame_model("frame_temperature", sampling.frame_temperature != 1);
    needs_frame_model("frame_temperature_range", sampling.frame_temperature_range.has_value());
}

FeatureRange read_training_range(std::string_view json, const std::string& source) {
    const JsonFields fields(json, source, "training_range", {"level", "pitch", "gains", "quietest", "voiced"});
    FeatureRange range;
    for (const char* name : {"level", "pitch"})
        if (!fields.given(name)) fields.refuse(name, "missing");
    range.level = fields.interval("level", -1e4, 1e4);
    range.pitch = fields.interval("pitch", 0, 1e6);
    read(fields, "gains", range.gains, 0, 1e4);
    if (!fields.nothing("quietest")) {
        if (fields.number("quietest").integer) fields.refuse_value("quietest", "expected a number with a point");
        range.quietest = fields.real("quietest", -1e4, 1e4);
    }
    if (fields.given("voiced")) range.voiced = fields.reals("voiced", 0, 1);
    return range;
}

RecordedLevels read_recorded_levels(std::string_view json, const std::string& source) {
    const JsonFields fields(json, source, "recorded_levels", {"loud", "silent"});
    for (const char* name : {"loud", "silent"})
        if (!fields.given(name)) fields.refuse(name, "missing");
    return {fields.reals("loud", -50, 0), fields.reals("silent", 0, 1)};
}

void check_speakers(const std::vector<std::string>& speakers, const JsonFields& fields) {
    std::set<std::string> names;
    for (const std::string& name : speakers) {
        if (name.empty()) fields.refuse("speakers", "'' is not a name");
        if (!names.insert(name).second) fields.refuse("speakers", shown(name) + " appears more than once");
    }
}

void check_features(const ModelConfig& config, const JsonFields& fields) {
    if (config.features && config.features->sample_rate != config.sample_rate)
        fields.refuse("features.sample_rate", "must be the model's sample_rate, " + std::to_string(config.sample_rate));
    if (config.linear_prediction && config.output == Output::MU_LAW)
        fields.refuse("linear_prediction", "needs a 16-bit output, logistic or gaussian");
    if (config.pitch_taps) {
        if (!config.linear_prediction || !config.features || config.pitch_taps % 2 == 0)
            fields.refuse("pitch_taps", "must be odd, and needs linear_prediction and features");
        const auto [shortest, longest] = config.features->pitch_periods();
        if (shortest == longest) fields.refuse("pitch_taps", "features.fft is too short to measure pitch periods");
    }
    if (config.frame_model) {
        if (!config.features) fields.refuse("frame_model", "needs features, which it draws");
        if (config.frame_model->components > config.features->bands)
            fields.refuse("frame_model.components",
                          "at most features.bands, " + std::to_string(config.features->bands));
    }
    if (config.training_range && !config.training_range->voiced.empty() &&
        config.training_range->voiced.size() != std::max<std::size_t>(1, config.speakers.size()))
        fields.refuse("training_range.voiced", "must have one share for each voice");
    if (config.recorded_levels) {
        const std::size_t voices = std::max<std::size_t>(1, config.speakers.size());
        if (config.features)
            fields.refuse("recorded_levels", "only for a model without features, which state the level");
        if (config.recorded_levels->loud.size() != voices || config.recorded_levels->silent.size() != voices)
            fields.refuse("recorded_levels", "must have one value for each voice");
    }
}

void check_size(const ModelConfig& config, const JsonFields& fields) {
    if (config.parameters() > MAX_PARAMETERS)
        fields.refuse("parameters", "at most " + std::to_string(MAX_PARAMETERS) + " are accepted");
    if (config.queue_size() > MAX_QUEUE_SIZE)
        fields.refuse("receptive_field", "the queues of a stream would hold " + std::to_string(config.queue_size()) +
                                             " values, at most " + std::to_string(MAX_QUEUE_SIZE) + " are accepted");
}

}  // namespace

ModelConfig read_config(std::string_view json, const std::string& source) {
    const JsonFields fields(json, source, "",
                            {"cycles",         "layers_per_cycle", "kernel_size",    "residual_channels",
                             "gate_channels",  "skip_channels",    "head_channels",  "output",
                             "mixtures",       "sample_rate",      "speakers",       "speaker_channels",
                             "features",       "frame_network",    "frame_channels", "linear_prediction",
                             "pitch_taps",     "frame_model",      "sampling",       "training_range",
                             "recorded_levels"});
    const auto table = [&](const char* name) {
        if (!fields.is_table(name)) fields.refuse_value(name, "expected a table");
        return fields.raw(name);
    };
    ModelConfig config;
    read(fields, "sample_rate", config.sample_rate, 1'000, 384'000);
    if (!fields.nothing("features")) config.features = read_mel(table("features"), source, config.sample_rate);
    if (!fields.nothing("frame_model")) config.frame_model = read_frame_model(table("frame_model"), source);
    const JsonFields options(fields.given("sampling") ? table("sampling") : "{}", source, "sampling",
                             {"temperature", "voiced_temperature", "top_k", "top_p", "refine", "particles",
                              "frame_temperature", "frame_temperature_range"});
    config.sampling = read_sampling(options);
    if (!fields.nothing("training_range")) config.training_range = read_training_range(table("training_range"), source);
    if (!fields.nothing("recorded_levels"))
        config.recorded_levels = read_recorded_levels(table("recorded_levels"), source);

    read(fields, "cycles", config.cycles, 1, 64);
    read(fields, "layers_per_cycle", config.layers_per_cycle, 1, 24);
    read(fields, "kernel_size", config.kernel_size, 2, 64);
    read(fields, "residual_channels", config.residual_channels, 1, 65'536);
    read(fields, "skip_channels", config.skip_channels, 1, 65'536);
    config.gate_channels = config.residual_channels;
    if (!fields.nothing("gate_channels")) config.gate_channels = fields.integer("gate_channels", 1, 65'536);
    config.head_channels = config.skip_channels;
    if (!fields.nothing("head_channels")) config.head_channels = fields.integer("head_channels", 1, 65'536);
    read(fields, "mixtures", config.mixtures, 1, 256);
    read(fields, "speaker_channels", config.speaker_channels, 1, 4'096);
    read(fields, "frame_channels", config.frame_channels, 4, 4'096);
    read(fields, "linear_prediction", config.linear_prediction, 0, 64);
    read(fields, "pitch_taps", config.pitch_taps, 0, 9);
    if (fields.given("output")) config.output = Output(fields.choice("output", {"mulaw", "logistic", "gaussian"}));
    if (fields.given("frame_network"))
        config.frame_network = FrameNetworkKind(fields.choice("frame_network", {"plain", "parallel", "causal"}));
    if (fields.given("speakers")) config.speakers = fields.texts("speakers");
    check_speakers(config.speakers, fields);
    check_features(config, fields);
    check_sampling(config, options);
    check_size(config, fields);
    return config;
}

}  // namespace wavenet
