// One step of a frame model with cached queues: the same as wavenet/engine/frame_step.py. The equations are those of
// wavenet/frame_model.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model_config.h"
#include "model_file.h"

namespace wavenet {

// The first dimensions of an encoded frame, those of its source; those of the shape follow.
enum Dimension { LOUDNESS, VOICING, PITCH };
constexpr int SOURCE = FrameModelConfig::SOURCE;

// A tensor of a frame model by its name in Python's `FrameModelConfig.shapes`. Fails if it is missing or of another size.
const std::vector<float>& frame_tensor(const TensorMap& tensors, const std::string& name, std::size_t size);

// y = W x + b.
struct LinearLayer {
    int inputs, outputs;
    std::vector<float> weights;  // [inputs][outputs]
    std::vector<float> bias;     // [outputs]

    void apply(const float* x, float* y) const;
};

// A component of the source's mixture.
struct SourceComponent {
    float log_weight, loudness, loudness_log_scale, pitch, pitch_log_scale, voicing_logit;
};

// Of one stream: the past inputs of every layer, the last frames, and room for the results.
struct FrameState {
    std::uint64_t step = 0;
    std::vector<float> queues;            // ring buffers, one after the other: [dilation][R] of each layer
    std::vector<float> frames;            // [order][D], the last one first
    std::vector<float> h;                 // [S], of the last frame
    std::vector<float> predicted;         // [D], linear prediction of the next frame
    std::vector<SourceComponent> source;  // [source mixtures], of the next frame
    std::vector<float> log_weights, means, log_scales;       // [M], [M][K], [M][K]: of the next frame's shape
    std::vector<float> taps, gates, gated, hidden, outputs;  // of the network's layers
};

class FrameModelNetwork {
public:
    // voices: 0 for a model of a single voice. Fails as `frame_tensor`.
    FrameModelNetwork(const FrameModelConfig& config, int voices, const TensorMap& tensors);

    FrameState new_state() const;
    void reset(FrameState& state) const;  // before the first frame
    // The gate biases [L][2R] of a mixture of voices, shares [V]; of a single voice: null.
    void gate_biases(const float* shares, float* biases) const;
    std::size_t gate_bias_size() const { return gate_bias_.size(); }

    // Appends a frame [D]. Afterwards `state.predicted` and `state.source` are those of the next frame.
    void advance(FrameState& state, const float* gate_biases, const float* frame) const;
    // The distribution of the shape, given the next frame's source [3].
    void shape(FrameState& state, const float* source) const;

    const FrameModelConfig config;
    const std::vector<float>& deviation() const { return deviation_; }  // [D], of linear prediction

private:
    struct Layer {
        LinearLayer dilated;          // of both taps, the older one first; without its bias
        LinearLayer residual;         // none in the last layer
        std::size_t dilation, queue;  // frames, and where its queue begins
    };
    void source(FrameState& state) const;

    int voices_;
    LinearLayer input_, skip_, source_hidden_, source_output_, shape_hidden_, shape_source_, shape_output_;
    std::vector<Layer> layers_;
    std::vector<float> gate_bias_, speakers_;                    // [L][2R], [V][L][2R]
    std::vector<float> prediction_, deviation_, log_deviation_;  // [P][D], [D], [D]
    std::vector<float> centres_;                                 // [bumps]
};

// Computed in float64 and rounded, so that all C libraries give the same float32 numbers, but for one in many millions.
float exponential(float x);
float sigmoid(float x);

}  // namespace wavenet
