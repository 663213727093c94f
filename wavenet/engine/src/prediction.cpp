#include "prediction.h"

#include <algorithm>
#include <cmath>

namespace wavenet {

void Predictor::next(int stream, double last, const double* row, float* inputs) {
    double* past = past_.data() + std::size_t(stream) * order_;
    std::copy_backward(past, past + order_ - 1, past + order_);  // a few numbers: a ring would cost more
    past[0] = last;
    const double left = last - sample_[stream], gain = row[order_], level = row[order_ + 1];
    double sample = 0;
    for (int i = 0; i < order_; ++i) sample += past[i] * row[i];
    sample_[stream] = sample;
    gain_[stream] = gain;
    const auto cut = [](double input) { return float(std::clamp(input, -MOST_INPUT, MOST_INPUT)); };
    inputs[0] = cut(last / level);
    inputs[1] = cut(sample / level);
    inputs[2] = cut(left / gain);
    if (!taps_) return;
    double* lefts = lefts_.data() + std::size_t(stream) * reach_;
    int& newest = newest_[stream];
    newest = (newest ? newest : reach_) - 1;
    lefts[newest] = left;
    int place = newest + int(row[order_ + 2]) + taps_ / 2 - 1;  // the oldest first
    for (int tap = 0; tap < taps_; ++tap, --place)
        inputs[3 + tap] = cut(lefts[place < reach_ ? place : place - reach_] / gain);
}

void Predictor::shift(int stream, const Config& config, float* numbers) const {
    const float sample = float(sample_[stream]), gain = float(gain_[stream]), log_gain = std::log(gain);
    float* log_scales = numbers + config.outputs - config.parts;
    float* means = log_scales - config.parts;
    for (int part = 0; part < config.parts; ++part) {
        means[part] = sample + gain * means[part];
        log_scales[part] += log_gain;
    }
}

}  // namespace wavenet
