#include "conditioning.h"

#include <algorithm>
#include <cmath>

#include "failure.h"
#include "interpolation.h"

namespace wavenet {
namespace {

// A gate with this bias is saturated to the last bit for all sums that a useful network has, and even with a thousandth
// of it, between two frames.
constexpr float MAX_BIAS = 1e6f;
constexpr double MAX_PREDICTOR = 1e30;  // no audio is loud enough for coefficients, gain or RMS beyond it

}  // namespace

void limit_biases(float* biases, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i)
        biases[i] = std::min(std::max(-MAX_BIAS, biases[i]), MAX_BIAS);  // NaN: -MAX_BIAS
}

bool valid_predictor(const Config& config, const double* predictor) {
    for (int i = 0; i < config.prediction_order + 3; ++i)
        if (!(std::abs(predictor[i]) < MAX_PREDICTOR)) return false;
    const double period = predictor[config.prediction_order + 2];
    return !config.pitch_taps ||
           (int(period) > config.pitch_taps / 2 && period + config.pitch_taps / 2 <= config.pitch_reach);
}

ConditioningFrames::ConditioningFrames(const Config& config, int streams, int frames, AlignedVector<float> biases,
                                       std::vector<double> predictors)
    : streams_(streams),
      frames_(frames),
      hop_(config.hop),
      order_(config.prediction_order),
      width_(std::size_t(config.all_gates_width()) * 2),
      biases_(std::move(biases)),
      predictors_(std::move(predictors)) {
    if (std::any_of(biases_.begin(), biases_.end(), [](float bias) { return std::isnan(bias); }))
        fail("the features are too large: the conditioning network turns them into NaN");
    limit_biases(biases_.data(), biases_.size());
    for (std::size_t frame = 0; frame < predictors_.size(); frame += order_ + 3)
        if (!valid_predictor(config, &predictors_[frame]))
            fail("the features are too large: no audio has a spectrum as loud as theirs");
}

GateBiases ConditioningFrames::biases(int first, std::size_t offset) const {
    const float* const bias = &biases_[first * width_];
    if (frames_ == 1) return {bias, bias, 0, width_};
    const Interpolation between = interpolation(int(offset % hop_), hop_);
    const std::size_t frame_stride = streams_ * width_;
    const float* const from = bias + (1 + offset / hop_ + between.from) * frame_stride;
    return {from, from + frame_stride, between.fraction, width_};
}

const double* ConditioningFrames::predictor(int stream, std::size_t offset) const {
    return &predictors_[(std::size_t(stream) * (frames_ - 2) + offset / hop_) * (order_ + 3)];
}

}  // namespace wavenet
