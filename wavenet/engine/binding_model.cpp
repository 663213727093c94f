// Model files as libwavenet reads them, for tests that compare them with wavenet.checkpoint.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>

#include "binding.h"
#include "model_file.h"

namespace nb = nanobind;
using namespace wavenet;

namespace {

nb::object number_or_none(double value) { return std::isnan(value) ? nb::none() : nb::cast(value); }
nb::tuple pair(const std::array<double, 2>& values) { return nb::make_tuple(values[0], values[1]); }

nb::dict mel_fields(const MelConfig& mel) {
    nb::dict fields;
    fields["sample_rate"] = mel.sample_rate;
    fields["window"] = mel.window;
    fields["fft"] = mel.fft;
    fields["hop"] = mel.hop;
    fields["bands"] = mel.bands;
    fields["low"] = mel.low;
    fields["high"] = mel.high;
    fields["scale"] = mel.slaney ? "slaney" : "htk";
    fields["area"] = mel.area;
    fields["power"] = mel.power;
    fields["floor"] = mel.floor;
    fields["mean"] = mel.mean;
    fields["deviation"] = mel.deviation;
    return fields;
}

nb::dict frame_model_fields(const FrameModelConfig& model) {
    nb::dict fields;
    fields["cycles"] = model.cycles;
    fields["layers_per_cycle"] = model.layers_per_cycle;
    fields["residual_channels"] = model.residual_channels;
    fields["skip_channels"] = model.skip_channels;
    fields["components"] = model.components;
    fields["mixtures"] = model.mixtures;
    fields["source_mixtures"] = model.source_mixtures;
    fields["prediction_order"] = model.prediction_order;
    return fields;
}

nb::dict sampling_fields(const SamplingConfig& sampling) {
    nb::dict fields;
    fields["temperature"] = sampling.temperature;
    fields["voiced_temperature"] = number_or_none(sampling.voiced_temperature);
    fields["top_k"] = sampling.top_k;
    fields["top_p"] = sampling.top_p;
    fields["refine"] = sampling.refine;
    fields["particles"] = sampling.particles;
    fields["frame_temperature"] = sampling.frame_temperature;
    const auto& range = sampling.frame_temperature_range;
    fields["frame_temperature_range"] = range ? nb::object(pair(*range)) : nb::none();
    return fields;
}

nb::dict range_fields(const FeatureRange& range) {
    nb::dict fields;
    fields["level"] = pair(range.level);
    fields["pitch"] = pair(range.pitch);
    fields["gains"] = range.gains;
    fields["quietest"] = number_or_none(range.quietest);
    fields["voiced"] = range.voiced;
    return fields;
}

nb::dict levels_fields(const RecordedLevels& levels) {
    nb::dict fields;
    fields["loud"] = levels.loud;
    fields["silent"] = levels.silent;
    return fields;
}

nb::dict config_fields(const ModelConfig& config) {
    static constexpr const char* OUTPUTS[] = {"mulaw", "logistic", "gaussian"};
    static constexpr const char* FRAME_NETWORKS[] = {"plain", "parallel", "causal"};
    nb::dict fields;
    fields["cycles"] = config.cycles;
    fields["layers_per_cycle"] = config.layers_per_cycle;
    fields["kernel_size"] = config.kernel_size;
    fields["residual_channels"] = config.residual_channels;
    fields["gate_channels"] = config.gate_channels;
    fields["skip_channels"] = config.skip_channels;
    fields["head_channels"] = config.head_channels;
    fields["output"] = OUTPUTS[int(config.output)];
    fields["mixtures"] = config.mixtures;
    fields["sample_rate"] = config.sample_rate;
    fields["speakers"] = config.speakers;
    fields["speaker_channels"] = config.speaker_channels;
    fields["features"] = config.features ? nb::object(mel_fields(*config.features)) : nb::none();
    fields["frame_network"] = FRAME_NETWORKS[int(config.frame_network)];
    fields["frame_channels"] = config.frame_channels;
    fields["linear_prediction"] = config.linear_prediction;
    fields["pitch_taps"] = config.pitch_taps;
    fields["frame_model"] = config.frame_model ? nb::object(frame_model_fields(*config.frame_model)) : nb::none();
    fields["sampling"] = sampling_fields(config.sampling);
    fields["training_range"] = config.training_range ? nb::object(range_fields(*config.training_range)) : nb::none();
    fields["recorded_levels"] =
        config.recorded_levels ? nb::object(levels_fields(*config.recorded_levels)) : nb::none();
    return fields;
}

nb::dict derived(const ModelConfig& config) {
    const Config engine = config.engine_config();
    nb::dict shapes, values;
    for (const auto& [name, shape] : config.shapes()) shapes[name.c_str()] = shape;
    values["shapes"] = shapes;
    values["receptive_field"] = config.receptive_field();
    values["queue_size"] = config.queue_size();
    values["parameters"] = config.parameters();
    values["conditioned"] = config.conditioned();
    values["dilations"] = engine.dilations;
    values["components"] = engine.components;
    values["input_channels"] = engine.input_channels;
    values["output_channels"] = engine.output_channels;
    values["pitch_reach"] = engine.pitch_reach;
    values["adaptation_hop"] = engine.adaptation_hop;
    values["adaptation_weights"] = engine.adaptation_weights;
    if (config.features) {
        const auto [shortest, longest] = config.features->pitch_periods();
        values["pitch_periods"] = nb::make_tuple(shortest, longest);
        values["silence"] = config.features->silence();
        values["can_refine"] = config.features->can_refine();
    }
    if (config.frame_model) {
        values["frame_dilations"] = config.frame_model->dilations();
        values["frame_receptive_field"] = config.frame_model->receptive_field();
    }
    return values;
}

nb::dict tensor_bytes(const TensorMap& tensors) {
    nb::dict all;
    for (const auto& [name, values] : tensors)
        all[name.c_str()] = nb::bytes(values.data(), values.size() * sizeof(float));
    return all;
}

}  // namespace

void bind_model(nb::module_& m) {
    m.def(
        "check_model",
        [](nb::bytes content) {
            const ModelFile model = read_model(content.data(), content.size());
            return nb::make_tuple(config_fields(model.config), derived(model.config), tensor_bytes(model.tensors));
        },
        nb::arg("content"));
    m.def("check_model_file", [](const std::string& path) { read_model_file(path.c_str()); }, nb::arg("path"));
}
