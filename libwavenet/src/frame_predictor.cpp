#include "frame_predictor.h"

#include <algorithm>
#include <cmath>

#include "linear_prediction.h"
#include "mel_filters.h"

namespace wavenet {
namespace {

// As in wavenet/nn/linear_prediction.py.
constexpr double WHITE_NOISE = 1e-5;
constexpr double LAG_HERTZ = 40.0;
constexpr double VOICED = 0.3;
constexpr double LEAST_RESOLUTION = 0.1;
constexpr double HARMONICS = 2500.0;  // Hz
constexpr double ROUNDED = 1e9;       // steps per 1.0 of a cepstrum: equal values stay equal in spite of rounding
constexpr double NEAREST = 6755399441055744.0;  // a double plus 1.5 * 2^52 has no bits for a fraction
constexpr double PI = 3.141592653589793;

// One bin of a spectrum, interpolated between two bands.
struct Interpolated {
    int band, next;
    double weight;  // of `next`
};

// Interpolates every bin between the centres of the bands, those without a bin of their own left out.
std::vector<Interpolated> spectrum_of_bands(const MelConfig& mel, const std::vector<MelFilter>& filters) {
    const int bins = mel.fft / 2 + 1;
    std::vector<double> centres;
    std::vector<int> bands;
    for (int band = 0; band < mel.bands; ++band) {
        const MelFilter& filter = filters[band];
        double moment = 0;
        for (std::size_t i = 0; i < filter.weights.size(); ++i) moment += filter.weights[i] * double(filter.first + i);
        if (filter.weights.empty()) continue;
        centres.push_back(moment / filter.sum());
        bands.push_back(band);
    }
    std::vector<Interpolated> spectrum(bins, Interpolated{0, 0, 0});
    for (int bin = 0; bin < bins && !bands.empty(); ++bin) {
        const auto above = std::size_t(std::upper_bound(centres.begin(), centres.end(), double(bin)) - centres.begin());
        if (above == 0) spectrum[bin] = {bands.front(), bands.front(), 0};
        else if (above == centres.size()) spectrum[bin] = {bands.back(), bands.back(), 0};
        else
            spectrum[bin] = {bands[above - 1], bands[above],
                             (bin - centres[above - 1]) / (centres[above] - centres[above - 1])};
    }
    return spectrum;
}

// cos(2 pi i / n)
std::vector<double> cosines(int n) {
    std::vector<double> values(n);
    for (int i = 0; i < n; ++i) values[i] = std::cos(2 * PI * i / n);
    return values;
}

std::vector<double> correlation_matrix(const MelConfig& mel, int order, const std::vector<Interpolated>& spectrum) {
    std::vector<double> matrix(std::size_t(mel.bands) * (order + 1));
    const std::vector<double> cosine = cosines(mel.fft);
    for (int lag = 0; lag <= order; ++lag) {
        const double width = 2 * PI * LAG_HERTZ * lag / mel.sample_rate;
        const double window = std::exp(-0.5 * width * width) * (lag ? 1 : 1 + WHITE_NOISE);
        for (int bin = 0; bin < int(spectrum.size()); ++bin) {
            const double both_halves = bin == 0 || 2 * bin == mel.fft ? 1 : 2;
            const double value = cosine[std::int64_t(lag) * bin % mel.fft] * both_halves / mel.fft * window;
            const Interpolated& at = spectrum[bin];
            matrix[std::size_t(at.band) * (order + 1) + lag] += value * (1 - at.weight);
            matrix[std::size_t(at.next) * (order + 1) + lag] += value * at.weight;
        }
    }
    return matrix;
}

std::vector<double> cepstrum_matrix(const MelConfig& mel, const std::vector<Interpolated>& spectrum) {
    const int bins = int(spectrum.size()), shortest = mel.pitch_periods().first;
    const int periods = mel.pitch_periods().second - shortest + 1;
    const double hertz_per_bin = mel.sample_rate / 2.0 / (bins - 1);
    std::vector<double> taper, mean(mel.bands), matrix(std::size_t(mel.bands) * periods), ripples(mel.bands);
    double total = 0;
    for (int bin = 0; bin < bins && bin * hertz_per_bin < HARMONICS; ++bin) {
        taper.push_back(0.5 + 0.5 * std::cos(PI * bin * hertz_per_bin / HARMONICS));
        total += taper.back();
        mean[spectrum[bin].band] += taper.back() * (1 - spectrum[bin].weight);
        mean[spectrum[bin].next] += taper.back() * spectrum[bin].weight;
    }
    for (double& value : mean) value /= total;
    for (int period = 0; period < periods; ++period) {
        const double radians_per_bin = 2 * PI / mel.sample_rate * (shortest + period) * hertz_per_bin;
        double all = 0;
        std::fill(ripples.begin(), ripples.end(), 0.0);
        for (int bin = 0; bin < int(taper.size()); ++bin) {
            const double value = std::cos(radians_per_bin * bin) * taper[bin];
            all += value;
            ripples[spectrum[bin].band] += value * (1 - spectrum[bin].weight);
            ripples[spectrum[bin].next] += value * spectrum[bin].weight;
        }
        for (int band = 0; band < mel.bands; ++band)
            matrix[std::size_t(band) * periods + period] = (ripples[band] - all * mean[band]) / total;
    }
    return matrix;
}

// The share of a spectrum's ripple at each pitch period that the bands leave, relative to the largest, [periods].
std::vector<double> resolution(const MelConfig& mel, const std::vector<MelFilter>& filters,
                               const std::vector<double>& cepstrum) {
    const auto [shortest, longest] = mel.pitch_periods();
    const std::size_t periods = longest - shortest + 1;
    const std::vector<double> cosine = cosines(mel.fft);
    std::vector<double> left(periods), ripples(periods);
    for (int band = 0; band < mel.bands; ++band) {
        const MelFilter& filter = filters[band];
        const double* const weights = &cepstrum[band * periods];
        const bool used = std::any_of(weights, weights + periods, [](double weight) { return weight != 0; });
        if (filter.weights.empty() || !used) continue;  // as of all bands beyond the harmonics
        std::fill(ripples.begin(), ripples.end(), 0.0);
        for (std::size_t i = 0; i < filter.weights.size(); ++i) {
            const std::size_t bin = filter.first + i, length = cosine.size();
            std::size_t angle = bin * shortest % length;
            for (std::size_t period = 0; period < periods; ++period) {
                ripples[period] += filter.weights[i] * cosine[angle];
                angle += bin;
                if (angle >= length) angle -= length;
            }
        }
        const double sum = filter.sum();
        for (std::size_t period = 0; period < periods; ++period)
            left[period] += weights[period] * ripples[period] / sum;
    }
    const double most = *std::max_element(left.begin(), left.end());
    for (double& share : left) share = std::clamp(share / most, LEAST_RESOLUTION, 1.0);
    return left;
}

}  // namespace

FramePredictor::FramePredictor(const MelConfig& mel, int order)
    : bands_(mel.bands),
      order_(order),
      shortest_(mel.pitch_periods().first),
      periods_(mel.pitch_periods().second - shortest_ + 1),
      exponent_(2 / mel.power),
      band_scale_(mel.bands) {
    const std::vector<MelFilter> filters = mel_filters(mel);
    const std::vector<Interpolated> spectrum = spectrum_of_bands(mel, filters);
    double energy = 0;
    for (double value : hann_window(mel.window)) energy += value * value;
    for (int band = 0; band < mel.bands; ++band) {
        const double weight = filters[band].sum();
        band_scale_[band] = weight > 0 ? std::pow(weight, -exponent_) / energy : 0;
    }
    correlation_ = correlation_matrix(mel, order, spectrum);
    cepstrum_ = cepstrum_matrix(mel, spectrum);
    ripple_ = resolution(mel, filters, cepstrum_);
    for (double& value : ripple_) value *= mel.power;
}

void FramePredictor::predict(const float* frame, int period, Workspace& workspace, double* row) const {
    double* const correlation = workspace.correlation.data();
    std::fill_n(correlation, order_ + 1, 0.0);
    for (int band = 0; band < bands_; ++band) {
        const double power = std::exp(exponent_ * frame[band]) * band_scale_[band];
        const double* const weights = &correlation_[std::size_t(band) * (order_ + 1)];
        for (int lag = 0; lag <= order_; ++lag) correlation[lag] += power * weights[lag];
    }
    row[order_ + 1] = std::sqrt(correlation[0]) + MIN_GAIN;
    row[order_] = std::sqrt(std::max(levinson(correlation, order_, row), 0.0)) + MIN_GAIN;
    row[order_ + 2] = period;
}

double FramePredictor::rms(const float* frame) const {
    double power = 0;
    for (int band = 0; band < bands_; ++band)
        power += std::exp(exponent_ * frame[band]) * band_scale_[band] * correlation_[std::size_t(band) * (order_ + 1)];
    return std::sqrt(power) + MIN_GAIN;
}

void FramePredictor::cepstrum(const float* frame, int first, int last, double* __restrict values) const {
    std::fill_n(values, last - first, 0.0);
    for (int band = 0; band < bands_; ++band) {
        const double value = frame[band];
        const double* const weights = &cepstrum_[std::size_t(band) * periods_ + first];
        for (int i = 0; i < last - first; ++i) values[i] += value * weights[i];
    }
    for (int i = 0; i < last - first; ++i) values[i] = ((values[i] * ROUNDED + NEAREST) - NEAREST) / ROUNDED;
}

FramePredictor::Pitch FramePredictor::pitch(const float* frame, Workspace& workspace) const {
    const std::vector<double>& values = workspace.cepstrum;
    cepstrum(frame, 0, periods_, workspace.cepstrum.data());
    const auto peak = int(std::max_element(values.begin(), values.end()) - values.begin());
    return {shortest_ + peak, values[peak] > VOICED * ripple_[peak]};
}

}  // namespace wavenet
