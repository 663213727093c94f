#include "linear_prediction.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

constexpr double ADAPTATION_NOISE = 1e-6;  // added to the power, -60 dB
constexpr double MIN_POWER = 1e-30;        // the recursion divides by it

}  // namespace

double levinson(const double* correlation, int order, double* a) {
    double error = std::max(correlation[0], MIN_POWER);
    for (int i = 0; i < order; ++i) {
        double predicted = 0;
        for (int k = 0; k < i; ++k) predicted += a[k] * correlation[i - k];
        const double reflection = (correlation[i + 1] - predicted) / error;
        for (int k = 0; k < i - 1 - k; ++k) {  // both ends at once, in place
            const double first = a[k], last = a[i - 1 - k];
            a[k] = first - reflection * last;
            a[i - 1 - k] = last - reflection * first;
        }
        if (i % 2) a[i / 2] -= reflection * a[i / 2];
        a[i] = reflection;
        error *= 1 - reflection * reflection;
    }
    return error;
}

// The coefficients, the gain and the RMS from the samples before time t.
void LinearPredictor::update(const Config& config, const double* recent, std::uint64_t t, double* adapted) {
    double energy = 0;
    for (int i = 0; i < window_; ++i) {
        const double weight = config.adaptation_weights[i];
        weighted_[i] = recent[(t + i) % window_] * weight;
        energy += weight * weight;
    }
    for (int lag = 0; lag <= order_; ++lag) {
        double sum = 0;
        for (int i = lag; i < window_; ++i) sum += weighted_[i] * weighted_[i - lag];
        correlation_[lag] = sum / energy;
    }
    adapted[order_ + 1] = std::sqrt(correlation_[0]) + MIN_GAIN;
    correlation_[0] = correlation_[0] * (1 + ADAPTATION_NOISE) + MIN_GAIN * MIN_GAIN;
    adapted[order_] = std::sqrt(std::max(levinson(correlation_.data(), order_, adapted), 0.0)) + MIN_GAIN;
}

void LinearPredictor::next_adaptive(int stream, double last, std::uint64_t t, const Config& config, float* inputs) {
    double* const recent = recent_.data() + std::size_t(stream) * window_;
    double* const adapted = adapted_.data() + std::size_t(stream) * (order_ + 2);
    if (t) recent[(t - 1) % window_] = last;  // the first input, before the first sample, is silence
    if (t % config.adaptation_hop == 0) update(config, recent, t, adapted);
    next(stream, last, adapted, inputs);
    inputs[3] = float((std::log(adapted[order_ + 1]) + 4) / 2);
    inputs[4] = float((std::log(adapted[order_]) + 6) / 2);
}

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
