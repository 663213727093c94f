#include "told.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace wavenet {
namespace {

// Features are finite, but what a network makes of huge ones may be infinite, which kernels must not see. At this bias
// a gate is open or shut to the last bit, whatever the sums beside it in a network of any use; and so is one that is
// told a thousandth of it, between two frames.
constexpr float MOST_BIAS = 1e6f;
// The same for predictors; but a sound as loud as that cannot be meant.
constexpr double MOST_PREDICTED = 1e30;

float bounded(float bias) {
    if (std::isnan(bias))
        throw std::invalid_argument("the features are too large: what the network makes of them is not a number");
    return std::clamp(bias, -MOST_BIAS, MOST_BIAS);
}

}  // namespace

Told::Told(const Config& config, int streams, int frames, const float* rows, const double* predictors)
    : streams(streams),
      frames_(frames),
      hop_(config.hop),
      order_(config.order),
      width_(std::size_t(config.layers()) * 2 * config.gate_width()),
      biases_(frames * streams * width_, 0.0f) {
    for (int s = 0; s < streams; ++s)
        for (int frame = 0; frame < frames; ++frame) {
            float* bias = &biases_[(std::size_t(frame) * streams + s) * width_];  // [L][a | b], each half padded
            for (int half = 0; half < 2 * config.layers(); ++half, rows += config.gate, bias += config.gate_width())
                std::transform(rows, rows + config.gate, bias, bounded);
        }
    if (!order_) return;
    predictors_.assign(predictors, predictors + std::size_t(streams) * (frames - 2) * (order_ + 3));
    for (double number : predictors_)
        if (!(std::abs(number) < MOST_PREDICTED))
            throw std::invalid_argument("the features are too large: no sound is so loud that they could describe it");
    for (std::size_t period = order_ + 2; config.pitch_taps && period < predictors_.size(); period += order_ + 3)
        if (int(predictors_[period]) <= config.pitch_taps / 2 ||
            predictors_[period] + config.pitch_taps / 2 > config.pitch_reach)
            throw std::invalid_argument("a pitch period is outside of what the predictor remembers");
}

// As `blend` in wavenet/conditions.py: frames speak in their middle, and in between their neighbours do as well.
Biases Told::biases(int first, std::size_t offset) const {
    const float* row = &biases_[first * width_];
    if (frames_ == 1) return {row, row, 0, width_};
    const double place = 1 + (double(offset) - (hop_ - 1) / 2.0) / hop_;
    const std::size_t frame = std::size_t(place), stride = streams * width_;
    row += frame * stride;
    return {row, row + stride, float(place - double(frame)), width_};
}

const double* Told::predictor(int stream, std::size_t offset) const {
    return &predictors_[(std::size_t(stream) * (frames_ - 2) + offset / hop_) * (order_ + 3)];
}

}  // namespace wavenet
