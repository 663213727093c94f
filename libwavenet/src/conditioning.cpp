#include "conditioning.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace wavenet {
namespace {

// Features are finite, but the frame network may turn huge ones into infinity, which kernels do not support. A gate with
// this bias is saturated to the last bit for all sums that a useful network has, and even with a thousandth of it,
// between two frames.
constexpr float MAX_BIAS = 1e6f;
constexpr double MAX_PREDICTOR = 1e30;  // no audio is loud enough for coefficients, gain or RMS beyond it

float bounded(float bias) {
    if (std::isnan(bias))
        throw std::invalid_argument("the features are too large: the conditioning network turns them into NaN");
    return std::clamp(bias, -MAX_BIAS, MAX_BIAS);
}

}  // namespace

ConditioningFrames::ConditioningFrames(const Config& config, int streams, int frames, const float* biases,
                                       const double* predictors)
    : streams_(streams),
      frames_(frames),
      hop_(config.hop),
      order_(config.prediction_order),
      width_(std::size_t(config.layers()) * 2 * config.gate_width()),
      biases_(frames * streams * width_, 0.0f) {
    for (int s = 0; s < streams; ++s)
        for (int frame = 0; frame < frames; ++frame) {
            float* bias = &biases_[(std::size_t(frame) * streams + s) * width_];  // [L][a | b], each half padded
            for (int half = 0; half < 2 * config.layers(); ++half, biases += config.gate, bias += config.gate_width())
                std::transform(biases, biases + config.gate, bias, bounded);
        }
    if (!order_ || !predictors) return;
    predictors_.assign(predictors, predictors + std::size_t(streams) * (frames - 2) * (order_ + 3));
    for (double value : predictors_)
        if (!(std::abs(value) < MAX_PREDICTOR))
            throw std::invalid_argument("the features are too large: no audio has a spectrum as loud as theirs");
    for (std::size_t period = order_ + 2; config.pitch_taps && period < predictors_.size(); period += order_ + 3)
        if (int(predictors_[period]) <= config.pitch_taps / 2 ||
            predictors_[period] + config.pitch_taps / 2 > config.pitch_reach)
            throw std::invalid_argument("a pitch period is outside the range of the stored prediction residuals");
}

// As in wavenet/nn/interpolation.py: the values of a frame apply at its centre, with linear interpolation in between.
GateBiases ConditioningFrames::biases(int first, std::size_t offset) const {
    const float* const bias = &biases_[first * width_];
    if (frames_ == 1) return {bias, bias, 0, width_};
    const double position = 1 + (double(offset) - (hop_ - 1) / 2.0) / hop_;
    const std::size_t frame = std::size_t(position), frame_stride = streams_ * width_;
    const float* const from = bias + frame * frame_stride;
    return {from, from + frame_stride, float(position - double(frame)), width_};
}

const double* ConditioningFrames::predictor(int stream, std::size_t offset) const {
    return &predictors_[(std::size_t(stream) * (frames_ - 2) + offset / hop_) * (order_ + 3)];
}

}  // namespace wavenet
