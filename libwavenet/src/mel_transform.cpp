#include "mel_transform.h"

#include <algorithm>
#include <cmath>

#include "mel_filters.h"

namespace wavenet {
int window_margin(const MelConfig& mel) { return (mel.fft - mel.hop + 1) / 2 - (mel.fft - mel.window) / 2; }

MelTransform::MelTransform(const MelConfig& mel)
    : mel_(mel),
      fft_(mel.fft),
      window_(hann_window(mel.window)),
      padded_(std::size_t(mel.fft)),
      spectrum_(std::size_t(fft_.bins())),
      bins_(spectrum_.size()),
      log_bands_(std::size_t(mel.bands)) {
    std::vector<double> totals(spectrum_.size());  // of all filters, each with a peak of 1
    for (const MelFilter& filter : mel_filters(mel)) {
        bands_.push_back({filter.first, int(filter.weights.size()), filters_.size()});
        double peak = 0;
        for (double weight : filter.weights) peak = std::max(peak, weight);
        for (std::size_t i = 0; i < filter.weights.size(); ++i) {
            filters_.push_back(filter.weights[i]);
            spread_.push_back(filter.weights[i] / peak);
            totals[std::size_t(filter.first) + i] += spread_.back();
        }
    }
    for (const Band& band : bands_)
        for (int i = 0; i < band.bins; ++i)
            spread_[band.weights + std::size_t(i)] /= std::max(totals[std::size_t(band.first + i)], 1e-9);
}

void MelTransform::analyse(const double* samples) {
    for (std::size_t i = 0; i < window_.size(); ++i) padded_[i] = samples[i] * window_[i];
    std::fill(padded_.begin() + mel_.window, padded_.end(), 0.0);
    fft_.forward(padded_.data(), spectrum_.data());
}

const std::vector<double>& MelTransform::log_bands() {
    std::transform(spectrum_.begin(), spectrum_.end(), bins_.begin(), [](auto bin) { return std::norm(bin); });
    if (mel_.power == 1)
        for (double& bin : bins_) bin = std::sqrt(bin);
    else if (mel_.power != 2)
        for (double& bin : bins_) bin = std::pow(bin, mel_.power / 2);
    for (std::size_t band = 0; band < bands_.size(); ++band) {
        const double *weights = filters_.data() + bands_[band].weights, *bins = bins_.data() + bands_[band].first;
        double sum = 0;
        for (int i = 0; i < bands_[band].bins; ++i) sum += weights[i] * bins[i];
        log_bands_[band] = std::log(std::max(sum, mel_.floor));
    }
    return log_bands_;
}

void MelTransform::add_change(const double* log_gains, const double* weights, double* samples) {
    std::fill(bins_.begin(), bins_.end(), 0.0);
    for (std::size_t band = 0; band < bands_.size(); ++band) {
        const double* shares = spread_.data() + bands_[band].weights;
        double* bins = bins_.data() + bands_[band].first;
        for (int i = 0; i < bands_[band].bins; ++i) bins[i] += log_gains[band] * shares[i];
    }
    for (std::size_t bin = 0; bin < bins_.size(); ++bin) spectrum_[bin] *= std::exp(bins_[bin]) - 1;
    fft_.inverse(spectrum_.data(), padded_.data());
    for (std::size_t i = 0; i < window_.size(); ++i) samples[i] += padded_[i] * weights[i];
}

}  // namespace wavenet
