#include "mel_filters.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

constexpr double ROUNDING = 0.02;  // a feature may lie this far below the floor

double hertz_to_mel(double hertz, bool slaney) {
    if (!slaney) return 2595 * std::log10(1 + hertz / 700);
    return hertz < 1000 ? 3 * hertz / 200 : 15 + 27 * std::log(hertz / 1000) / std::log(6.4);
}

double mel_to_hertz(double mel, bool slaney) {
    if (!slaney) return 700 * (std::pow(10.0, mel / 2595) - 1);
    return mel < 15 ? 200 * mel / 3 : 1000 * std::exp((mel - 15) * std::log(6.4) / 27);
}

// Value i of n equally spaced ones from `first` to `last`.
double spaced(double first, double last, int n, int i) {
    return i == n - 1 ? last : first + i * ((last - first) / (n - 1));
}

}  // namespace

std::vector<MelFilter> mel_filters(const MelConfig& mel) {
    const int bins = mel.fft / 2 + 1;
    const double low = hertz_to_mel(mel.low, mel.slaney), high = hertz_to_mel(mel.high, mel.slaney);
    const auto edge = [&](int i) { return mel_to_hertz(spaced(low, high, mel.bands + 2, i), mel.slaney); };
    std::vector<MelFilter> filters(mel.bands);
    int first = 0;  // where the search for the band's bins begins: its lower edge is not below that of the last band
    for (int band = 0; band < mel.bands; ++band) {
        const double from = edge(band), centre = edge(band + 1), to = edge(band + 2);
        for (int bin = first; bin < bins; ++bin) {
            const double hertz = spaced(0, mel.sample_rate / 2, bins, bin);
            if (hertz <= from) first = bin;
            if (hertz >= to) break;
            const double weight = std::min((hertz - from) / (centre - from), (to - hertz) / (to - centre));
            if (weight <= 0) continue;
            if (filters[band].weights.empty()) filters[band].first = bin;
            filters[band].weights.push_back(mel.area ? weight * (2 / (to - from)) : weight);
        }
    }
    return filters;
}

std::vector<double> hann_window(int size) {
    const double step = 2 * std::acos(-1.0) / size;
    std::vector<double> window(std::size_t(size), 0);
    for (int i = 0; i < size; ++i) window[std::size_t(i)] = 0.5 - 0.5 * std::cos(step * i);
    return window;
}

// An upper bound of ln of the sum of w_k |X_k|^p that a band can have, see `largest_feature` in feature_check.py.
FeatureLimits feature_limits(const MelConfig& mel) {
    double amplitude = 0, energy = 0, largest_sum = 0, largest_norm = 0;
    for (double value : hann_window(mel.window)) amplitude += value, energy += value * value;
    for (const MelFilter& filter : mel_filters(mel)) {
        double norm = 0;  // the largest sum of w_k e_k^(p / 2) for e_k >= 0 whose sum is 1
        for (double weight : filter.weights)
            norm = mel.power < 2 ? norm + std::pow(weight, 2 / (2 - mel.power)) : std::max(norm, weight);
        largest_norm = std::max(largest_norm, mel.power < 2 ? std::pow(norm, (2 - mel.power) / 2) : norm);
        largest_sum = std::max(largest_sum, filter.sum());
    }
    double largest = largest_sum * std::pow(amplitude, mel.power);
    if (mel.power <= 2) largest = std::min(largest, std::pow(mel.fft / 2.0 * energy, mel.power / 2) * largest_norm);
    return {std::log(mel.floor) - ROUNDING, std::log(std::max(largest, mel.floor)) + mel.power * std::log(OVERSHOOT)};
}

}  // namespace wavenet
