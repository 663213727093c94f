#include "frame_spectrum.h"

#include <algorithm>
#include <cmath>

namespace wavenet {
namespace {

// as in wavenet/nn/linear_prediction.py
constexpr double WHITE_NOISE = 1e-5;
constexpr double LAG_HERTZ = 40;
constexpr double MIN_GAIN = 1.0 / (1 << 16);
constexpr double LEAST_RESOLUTION = 0.1;
constexpr double HARMONICS = 2'500;  // Hz

constexpr double PI = 3.14159265358979323846;

double sum(const std::vector<double>& values) {
    double total = 0;
    for (const double value : values) total += value;
    return total;
}

double hertz_to_mel(double hertz, bool slaney) {
    if (!slaney) return 2595 * std::log10(1 + hertz / 700);
    return hertz < 1000 ? 3 * hertz / 200 : 15 + 27 * std::log(hertz / 1000) / std::log(6.4);
}

double mel_to_hertz(double mels, bool slaney) {
    if (!slaney) return 700 * (std::pow(10.0, mels / 2595) - 1);
    return mels < 15 ? 200 * mels / 3 : 1000 * std::exp((mels - 15) * std::log(6.4) / 27);
}

}  // namespace

// The bins of a mel filter, those with a weight above zero: none if it is narrower than a bin.
struct FrameSpectrum::Filter {
    int first = 0;
    std::vector<double> weights;  // of the bins `first`, `first` + 1, ...
};

// A bin of a spectrum is the mean of two bands, with these weights; linear interpolation between their centres.
struct FrameSpectrum::Bin {
    int low = 0, high = 0;  // bands
    double low_weight = 0, high_weight = 0;
};

// cos(2 pi lag bin / size) for whole numbers.
class FrameSpectrum::Cosines {
public:
    explicit Cosines(int size) {
        for (int i = 0; i < size; ++i) turn_.push_back(std::cos(2 * PI * i / size));
    }
    double operator()(std::size_t lag, std::size_t bin) const { return turn_[lag * bin % turn_.size()]; }

private:
    std::vector<double> turn_;
};

// As of wavenet/features.py, [bands].
std::vector<FrameSpectrum::Filter> FrameSpectrum::mel_filters(const MelConfig& mel) {
    const double low = hertz_to_mel(mel.low, mel.slaney), high = hertz_to_mel(mel.high, mel.slaney);
    const double step = (high - low) / (mel.bands + 1);
    const double bin_width = double(mel.sample_rate / 2) / (mel.fft / 2);  // Hz
    std::vector<Filter> filters(mel.bands);
    for (int band = 0; band < mel.bands; ++band) {
        const double left = mel_to_hertz(low + band * step, mel.slaney);
        const double centre = mel_to_hertz(low + (band + 1) * step, mel.slaney);
        const double right = mel_to_hertz(low + (band + 2) * step, mel.slaney);
        Filter& filter = filters[band];
        const int last = int(std::min(right / bin_width + 1, double(mel.fft / 2)));
        for (int bin = std::max(0, int(left / bin_width)); bin <= last; ++bin) {
            const double hertz = bin * bin_width;
            const double weight = std::min((hertz - left) / (centre - left), (right - hertz) / (right - centre));
            if (!(weight > 0)) continue;
            if (filter.weights.empty()) filter.first = bin;
            filter.weights.push_back(mel.area ? weight * (2 / (right - left)) : weight);
        }
    }
    return filters;
}

// All bins [fft / 2 + 1] of a spectrum. Bands without a bin of their own are left out.
std::vector<FrameSpectrum::Bin> FrameSpectrum::spectrum_bins(const std::vector<Filter>& filters, int count) {
    std::vector<int> used;
    std::vector<double> centres;
    for (std::size_t band = 0; band < filters.size(); ++band) {
        const Filter& filter = filters[band];
        if (filter.weights.empty()) continue;
        double centre = 0;
        for (std::size_t i = 0; i < filter.weights.size(); ++i) centre += filter.weights[i] * double(filter.first + i);
        used.push_back(int(band));
        centres.push_back(centre / sum(filter.weights));
    }
    std::vector<Bin> bins(count);
    if (used.empty()) return bins;
    for (int bin = 0; bin < count; ++bin) {
        const std::size_t after = std::upper_bound(centres.begin(), centres.end(), bin) - centres.begin();
        const std::size_t low = after ? after - 1 : 0, high = std::min(after, centres.size() - 1);
        const double distance = centres[high] - centres[low];
        const double share = distance > 0 ? (bin - centres[low]) / distance : 0;
        bins[bin] = {used[low], used[high], 1 - share, share};
    }
    return bins;
}

FrameSpectrum::FrameSpectrum(const MelConfig& mel, int order)
    : bands_(mel.bands),
      order_(order),
      shortest_(mel.pitch_periods().first),
      periods_(mel.pitch_periods().second - shortest_ + 1),
      exponent_(2 / mel.power),
      scale_(bands_),
      correlation_(std::size_t(bands_) * (order + 1)),
      cepstrum_(std::size_t(bands_) * periods_),
      resolution_(periods_) {
    const std::vector<Filter> filters = mel_filters(mel);
    const std::vector<Bin> bins = spectrum_bins(filters, mel.fft / 2 + 1);
    const Cosines cosine(mel.fft);
    const double window_energy = 3.0 / 8 * mel.window;  // the sum of the squares of a Hann window
    for (int band = 0; band < bands_; ++band)
        if (!filters[band].weights.empty())
            scale_[band] = std::pow(sum(filters[band].weights), -2 / mel.power) / window_energy;
    for (int lag = 0; lag <= order; ++lag) {
        const double angle = 2 * PI * LAG_HERTZ * lag / mel.sample_rate;
        const double window = std::exp(-0.5 * angle * angle) * (lag ? 1 : 1 + WHITE_NOISE) / mel.fft;
        for (int bin = 0; bin < int(bins.size()); ++bin) {
            const int halves = bin == 0 || 2 * bin == mel.fft ? 1 : 2;  // of the spectrum
            const double weight = cosine(lag, bin) * halves * window;
            correlation_[std::size_t(bins[bin].low) * (order + 1) + lag] += weight * bins[bin].low_weight;
            correlation_[std::size_t(bins[bin].high) * (order + 1) + lag] += weight * bins[bin].high_weight;
        }
    }
    set_cepstrum(mel, bins);
    set_resolution(filters, cosine);
}

void FrameSpectrum::set_cepstrum(const MelConfig& mel, const std::vector<Bin>& bins) {
    const int half = mel.fft / 2;
    const Cosines cosine(2 * half);
    std::vector<double> taper, means(bands_);  // weights of the bins, which fall to zero; means over them
    for (int bin = 0; bin <= half; ++bin) {
        const double hertz = mel.sample_rate / 2.0 * bin / half;
        if (hertz >= HARMONICS) break;
        taper.push_back(0.5 + 0.5 * std::cos(PI * hertz / HARMONICS));
    }
    const double total = sum(taper);
    for (double& weight : taper) weight /= total;
    for (std::size_t bin = 0; bin < taper.size(); ++bin) {
        means[bins[bin].low] += taper[bin] * bins[bin].low_weight;
        means[bins[bin].high] += taper[bin] * bins[bin].high_weight;
    }
    for (int period = 0; period < periods_; ++period) {
        double* const column = cepstrum_.data() + period;
        double mean = 0;
        for (std::size_t bin = 0; bin < taper.size(); ++bin) {
            const double ripple = cosine(shortest_ + period, bin) * taper[bin];
            column[std::size_t(bins[bin].low) * periods_] += ripple * bins[bin].low_weight;
            column[std::size_t(bins[bin].high) * periods_] += ripple * bins[bin].high_weight;
            mean += ripple;
        }
        for (int band = 0; band < bands_; ++band) column[std::size_t(band) * periods_] -= mean * means[band];
    }
}

// The cepstrum, at every period, of a spectrum with a ripple of that period.
void FrameSpectrum::set_resolution(const std::vector<Filter>& filters, const Cosines& cosine) {
    for (int band = 0; band < bands_; ++band) {
        const Filter& filter = filters[band];
        const double total = sum(filter.weights);
        for (int period = 0; period < periods_ && total > 0; ++period) {
            double left = 0;
            for (std::size_t i = 0; i < filter.weights.size(); ++i)
                left += filter.weights[i] * cosine(shortest_ + period, filter.first + i);
            resolution_[period] += cepstrum_[std::size_t(band) * periods_ + period] * left / total;
        }
    }
    const double largest = *std::max_element(resolution_.begin(), resolution_.end());
    for (double& share : resolution_) share = std::clamp(largest > 0 ? share / largest : 0, LEAST_RESOLUTION, 1.0);
}

void FrameSpectrum::autocorrelation(const float* frame, double* correlation) const {
    std::fill(correlation, correlation + order_ + 1, 0.0);
    for (int band = 0; band < bands_; ++band) {
        const double power = std::exp(exponent_ * frame[band]) * scale_[band];
        const double* const row = correlation_.data() + std::size_t(band) * (order_ + 1);
        for (int lag = 0; lag <= order_; ++lag) correlation[lag] += power * row[lag];
    }
}

double FrameSpectrum::rms(const float* frame) const {
    double power = 0;
    for (int band = 0; band < bands_; ++band)
        power += std::exp(exponent_ * frame[band]) * scale_[band] * correlation_[std::size_t(band) * (order_ + 1)];
    return std::sqrt(power) + MIN_GAIN;
}

void FrameSpectrum::cepstrum(const float* frame, int first, int last, double* __restrict values) const {
    const int count = last - first;
    std::fill(values, values + count, 0.0);
    for (int band = 0; band < bands_; ++band) {
        const double feature = frame[band];
        const double* const row = cepstrum_.data() + std::size_t(band) * periods_ + first;
        for (int i = 0; i < count; ++i) values[i] += row[i] * feature;
    }
    for (int i = 0; i < count; ++i) values[i] = std::nearbyint(values[i] * 1e9) / 1e9;  // hides differences of 1e-16
}

}  // namespace wavenet
