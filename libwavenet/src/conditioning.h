// Conditioning frames: the gate biases of each frame, which replace the biases of the dilated convolutions, and the
// linear predictors of the frames. Immutable, one object per chunk of frames.
#pragma once

#include <cstddef>
#include <vector>

#include "aligned_vector.h"
#include "config.h"

namespace wavenet {

// The gate biases of one sample: interpolated between two frames, for every stream [L][2G].
struct GateBiases {
    const float* from = nullptr;
    const float* to = nullptr;
    float fraction = 0;      // 0: `from`, 1: `to`
    std::size_t stride = 0;  // from one stream to the next; 0: all streams have the same biases
};

// What a network is conditioned on, sample by sample.
class Conditioning {
public:
    virtual ~Conditioning() = default;
    // The gate biases of the streams from `first` on, at a sample: `offset` samples after that where the object begins.
    virtual GateBiases biases(int first, std::size_t offset) const = 0;
    // The linear predictor of a stream at a sample: [prediction_order + 3].
    virtual const double* predictor(int stream, std::size_t offset) const = 0;
    // Whether it is for this many streams and has this many samples.
    virtual bool fits(int streams, std::size_t samples) const = 0;
};

class ConditioningFrames : public Conditioning {
public:
    // biases [streams][frames][L][2G]: a single frame is constant conditioning; otherwise a chunk of frames with one
    // more frame on either side. predictors [streams][frames - 2][prediction_order + 3]: coefficients, gain, RMS and
    // pitch period of each frame in the chunk, unless the predictor is backward-adaptive or there is none.
    // Throws std::invalid_argument for NaN, for predictors that no audio can have, and for pitch periods out of range.
    ConditioningFrames(const Config& config, int streams, int frames, const float* biases, const double* predictors);

    // `offset`: samples after the start of the chunk
    GateBiases biases(int first, std::size_t offset) const override;
    const double* predictor(int stream, std::size_t offset) const override;
    bool fits(int streams, std::size_t samples) const override {
        return streams == streams_ && (frames_ == 1 || samples <= std::size_t(frames_ - 2) * hop_);
    }

private:
    const int streams_, frames_, hop_, order_;
    const std::size_t width_;         // L * 2G
    AlignedVector<float> biases_;     // [frames][streams][L][2G]
    std::vector<double> predictors_;  // [streams][frames - 2][order + 3]
};

}  // namespace wavenet
