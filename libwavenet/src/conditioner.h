// From conditioning inputs (shares of speakers, log-mel frames) to the gate biases and linear predictors of frames, as in
// wavenet/engine/conditioning.py. Immutable, shared by all streams.
#pragma once

#include <memory>
#include <optional>

#include "conditioning.h"
#include "frame_network.h"
#include "frame_predictor.h"
#include "mel_filters.h"
#include "model_file.h"

namespace wavenet {

class Conditioner {
public:
    // Of a model with speakers, features or both.
    Conditioner(const ModelConfig& config, const TensorMap& tensors);

    const Config& config() const { return config_; }
    int speakers() const { return speakers_; }
    int bands() const { return bands_; }  // 0: the model has no features
    // How many frames must follow a sample's own frame before the sample can be generated: those that the frame network
    // looks ahead, and one for the interpolation.
    int look_ahead() const { return bands_ ? network_->context().after + 1 : 0; }
    // Whether audio in [-1, 1] can have these features, [frames][bands].
    bool possible(const float* frames, std::size_t n) const;

    // The conditioning of some streams: shares [streams][speakers], or null for a model without; and features
    // [streams][bands][n] of a chunk of frames and its context, or null likewise. That context is one frame to each side
    // and that of the frame network. The values are those of `ConditioningStream` to the last bit.
    // Fails for features that no audio has.
    std::unique_ptr<ConditioningFrames> frames(int streams, const float* shares, const float* features, int n) const;

    // The parts of that, for `ConditioningStream`:
    const FrameNetwork& network() const { return *network_; }
    const FramePredictor& predictor() const { return *predictor_; }
    const FeatureLimits& limits() const { return limits_; }
    float silence() const { return silence_; }
    int speaker_channels() const { return speaker_channels_; }
    std::size_t width() const { return bias_.size(); }  // of gate biases, [L][2G], each half padded
    // The gate biases that all frames have: those of the layers, and of speakers with these shares [speakers], embedded
    // as [speaker_channels()].
    void shared_biases(const float* shares, float* embedded, float* biases) const;
    // The gate biases [n][width()], `stride` apart, of frames with these channels and the shared biases.
    void frame_biases(const float* shared, const float* channels, int n, float* biases, std::size_t stride) const;

private:
    const Kernels& kernels_;
    const Config config_;
    const int speakers_, speaker_channels_, bands_;
    AlignedVector<float> bias_;     // [width()], of the layers
    std::vector<float> embedding_;  // [speakers][speaker channels]
    FrameMatrix from_speaker_;      // [width()] from the embedding
    FrameMatrix from_frames_;       // [width()] from the frame network's channels
    std::optional<FrameNetwork> network_;
    std::optional<FramePredictor> predictor_;
    FeatureLimits limits_{};
    float silence_ = 0;
};

}  // namespace wavenet
