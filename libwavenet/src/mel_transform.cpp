#include "mel_transform.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

double hertz_to_mel(double hertz, bool slaney) {
    if (!slaney) return 2595 * std::log10(1 + hertz / 700);
    return hertz < 1000 ? 3 * hertz / 200 : 15 + 27 * std::log(hertz / 1000) / std::log(6.4);
}

double mel_to_hertz(double mels, bool slaney) {
    if (!slaney) return 700 * (std::pow(10, mels / 2595) - 1);
    return mels < 15 ? 200 * mels / 3 : 1000 * std::exp((mels - 15) * std::log(6.4) / 27);
}

// The edges [bands + 2] in Hz of the triangular filters.
std::vector<double> mel_edges(const MelConfig& mel) {
    const double low = hertz_to_mel(mel.low, mel.slaney), high = hertz_to_mel(mel.high, mel.slaney);
    const double step = (high - low) / (mel.bands + 1);
    std::vector<double> edges(std::size_t(mel.bands) + 2);
    for (std::size_t i = 0; i < edges.size(); ++i) edges[i] = mel_to_hertz(low + double(i) * step, mel.slaney);
    return edges;
}

}  // namespace

int window_margin(const MelConfig& mel) { return (mel.fft - mel.hop + 1) / 2 - (mel.fft - mel.window) / 2; }

std::vector<double> hann_window(int size) {
    const double step = 2 * std::acos(-1.0) / size;
    std::vector<double> window(std::size_t(size), 0);
    for (int i = 0; i < size; ++i) window[std::size_t(i)] = 0.5 - 0.5 * std::cos(step * i);
    return window;
}

MelTransform::MelTransform(const MelConfig& mel)
    : mel_(mel),
      fft_(mel.fft),
      window_(hann_window(mel.window)),
      padded_(std::size_t(mel.fft)),
      spectrum_(std::size_t(fft_.bins())),
      bins_(spectrum_.size()),
      log_bands_(std::size_t(mel.bands)) {
    const std::vector<double> edges = mel_edges(mel);
    const double bin_width = double(mel.sample_rate / 2) / (mel.fft / 2);  // Hz
    std::vector<double> totals(spectrum_.size());                          // of all filters, each with a peak of 1
    for (std::size_t band = 0; band < std::size_t(mel.bands); ++band) {
        const double low = edges[band], middle = edges[band + 1], high = edges[band + 2];
        Band added{0, 0, filters_.size()};
        double peak = 0;
        for (int bin = 0; bin < fft_.bins(); ++bin) {
            const double hertz = bin * bin_width;
            const double weight = std::min((hertz - low) / (middle - low), (high - hertz) / (high - middle));
            if (weight <= 0) continue;
            if (!added.bins++) added.first = bin;
            filters_.push_back(mel.area ? weight * 2 / (high - low) : weight);
            peak = std::max(peak, filters_.back());
        }
        for (int i = 0; i < added.bins; ++i) {
            spread_.push_back(filters_[added.weights + std::size_t(i)] / peak);
            totals[std::size_t(added.first + i)] += spread_.back();
        }
        bands_.push_back(added);
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
