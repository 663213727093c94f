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

// Features are finite, but huge ones, or weights that no training makes, may give infinite gate biases and NaN, which
// kernels do not support. These are limited to what saturates a gate.
void limit_biases(float* biases, std::size_t n);
// Whether predictors can be of audio: coefficients, gain and RMS within what doubles can calculate with, and a pitch
// period within the stored residuals. predictor [prediction_order + 3].
bool valid_predictor(const Config& config, const double* predictor);

class ConditioningFrames : public Conditioning {
public:
    // biases [frames][streams][L][2G], each half padded: a single frame is constant conditioning; otherwise a chunk of
    // frames with one more frame on either side. predictors [streams][frames - 2][prediction_order + 3]: coefficients,
    // gain, RMS and pitch period of each frame in the chunk; empty if the predictor is backward-adaptive or there is
    // none. Fails for NaN and invalid predictors.
    ConditioningFrames(const Config& config, int streams, int frames, AlignedVector<float> biases,
                       std::vector<double> predictors);

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
