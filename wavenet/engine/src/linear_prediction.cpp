#include "linear_prediction.h"

#include <algorithm>
#include <cmath>

namespace wavenet {

void LinearPredictor::next(int stream, double last, const double* predictor, float* inputs) {
    double* const past = past_.data() + std::size_t(stream) * order_;
    std::copy_backward(past, past + order_ - 1, past + order_);  // a few values: a ring buffer would cost more
    past[0] = last;
    const double residual = last - prediction_[stream], gain = predictor[order_], rms = predictor[order_ + 1];
    double prediction = 0;
    for (int i = 0; i < order_; ++i) prediction += past[i] * predictor[i];
    prediction_[stream] = prediction;
    gain_[stream] = gain;
    const auto clipped = [](double input) { return float(std::clamp(input, -INPUT_LIMIT, INPUT_LIMIT)); };
    inputs[0] = clipped(last / rms);
    inputs[1] = clipped(prediction / rms);
    inputs[2] = clipped(residual / gain);
    if (!taps_) return;
    double* const residuals = residuals_.data() + std::size_t(stream) * reach_;
    int& newest = newest_[stream];
    newest = (newest ? newest : reach_) - 1;
    residuals[newest] = residual;
    int position = newest + int(predictor[order_ + 2]) + taps_ / 2 - 1;  // the oldest first
    for (int tap = 0; tap < taps_; ++tap, --position)
        inputs[3 + tap] = clipped(residuals[position < reach_ ? position : position - reach_] / gain);
}

void LinearPredictor::shift(int stream, const Config& config, float* parameters) const {
    const float prediction = float(prediction_[stream]), gain = float(gain_[stream]), log_gain = std::log(gain);
    float* const log_scales = parameters + config.output_channels - config.components;
    float* const means = log_scales - config.components;
    for (int component = 0; component < config.components; ++component) {
        means[component] = prediction + gain * means[component];
        log_scales[component] += log_gain;
    }
}

}  // namespace wavenet
