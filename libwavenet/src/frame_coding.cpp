#include "frame_coding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "failure.h"

namespace wavenet {
namespace {

// as in wavenet/frame_coding.py and wavenet/mel_config.py
constexpr double NEPER_DB = 8.685889638065035;  // dB in a neper
constexpr double LARGEST = 1e4;
constexpr double VOICED = 0.2;
constexpr double PITCH_TOLERANCE = 0.06;
constexpr double LOWEST_PITCH = 50, HIGHEST_PITCH = 500;  // Hz

std::vector<double> doubles(const TensorMap& tensors, const char* name, std::size_t size) {
    const auto& values = frame_tensor(tensors, std::string("coding.") + name, size);
    return {values.begin(), values.end()};
}

// The loudness of a log-mel frame in nepers: the logarithm of the norm of its bands.
double loudness(const std::vector<double>& frame) {
    const double peak = *std::max_element(frame.begin(), frame.end());
    double energy = 0;
    for (const double feature : frame) energy += std::exp(2 * (feature - peak));
    return peak + 0.5 * std::log(energy);
}

// sums [columns] += x [rows] times a matrix [rows][columns]
template <class X>
void add_product(const std::vector<double>& matrix, const X* x, int rows, int columns, double* __restrict sums) {
    const double* row = matrix.data();
    for (int r = 0; r < rows; ++r, row += columns) {
        const double value = x[r];
        for (int column = 0; column < columns; ++column) sums[column] += row[column] * value;
    }
}

}  // namespace

FrameCoding::FrameCoding(const FrameModelConfig& config, const MelConfig& mel, int voices, const TensorMap& tensors)
    : mel_(mel), predictor_(mel, 0), voices_(std::max(1, voices)), components_(config.components) {
    const std::size_t bands = mel.bands, components = components_;
    mean_ = doubles(tensors, "mean", voices_ * bands);
    loudness_ = doubles(tensors, "loudness", std::size_t(voices_) * 2);
    pitch_ = doubles(tensors, "pitch", std::size_t(voices_) * 2);
    analysis_ = doubles(tensors, "analysis", bands * components);
    synthesis_ = doubles(tensors, "synthesis", components * bands);
    limits_ = frame_tensor(tensors, "coding.limits", std::size_t(2) * config.dimensions());
    for (int period = 0; period < predictor_.periods(); ++period)
        log_periods_.push_back(std::log(double(predictor_.shortest_period() + period)));
}

FrameScratch FrameCoding::new_scratch() const {
    return {std::vector<float>(mel_.bands), std::vector<double>(mel_.bands), std::vector<double>(components_),
            std::vector<double>(predictor_.periods())};
}

void FrameCoding::set_voice(const float* shares, FrameVoice& voice) const {
    const float whole = 1;
    if (!shares) shares = &whole;
    voice.loudness = voice.loudness_deviation = voice.pitch = voice.pitch_deviation = 0;
    for (int v = 0; v < voices_; ++v) {
        voice.loudness += shares[v] * loudness_[2 * v];
        voice.loudness_deviation += shares[v] * loudness_[2 * v + 1];
        voice.pitch += shares[v] * pitch_[2 * v];
        voice.pitch_deviation += shares[v] * pitch_[2 * v + 1];
    }
    std::fill(voice.mean.begin(), voice.mean.end(), 0.0);
    add_product(mean_, shares, voices_, mel_.bands, voice.mean.data());
}

// Whether a frame is voiced, and its pitch, as `voicing_and_pitch` of wavenet/nn/linear_prediction.py.
bool FrameCoding::voicing_and_pitch(const float* frame, FrameScratch& scratch, double& hertz) const {
    const std::vector<double>& c = scratch.cepstrum;
    const int periods = predictor_.periods();
    predictor_.cepstrum(frame, 0, periods, scratch.cepstrum.data());
    const int peak = int(std::max_element(c.begin(), c.end()) - c.begin());
    double vertex = peak;
    if (peak > 0 && peak < periods - 1) {
        const double before = c[peak - 1], after = c[peak + 1], curvature = before - 2 * c[peak] + after;
        if (curvature < 0) vertex += (before - after) / (2 * curvature);
    }
    hertz = mel_.sample_rate / (predictor_.shortest_period() + vertex);
    return c[peak] > VOICED * predictor_.ripple(peak);
}

void FrameCoding::encode(const float* frame, const FrameVoice& voice, FrameScratch& scratch, float* encoded) const {
    std::vector<double>& values = scratch.values;
    for (int band = 0; band < mel_.bands; ++band) {
        if (!std::isfinite(frame[band])) fail("the frames contain NaN or infinity; replace those first");
        values[band] = std::clamp(double(frame[band]), -LARGEST, LARGEST);
        scratch.frame[band] = float(values[band]);
    }
    double hertz;
    const bool is_voiced = voicing_and_pitch(scratch.frame.data(), scratch, hertz);
    const double level = loudness(values);
    for (int band = 0; band < mel_.bands; ++band) values[band] = values[band] - level - voice.mean[band];
    std::fill(scratch.shape.begin(), scratch.shape.end(), 0.0);
    add_product(analysis_, values.data(), mel_.bands, components_, scratch.shape.data());
    const auto set = [&](int dimension, double value) {
        encoded[dimension] = clamped(float(std::clamp(value, -LARGEST, LARGEST)), dimension);
    };
    set(LOUDNESS, (level - voice.loudness) / voice.loudness_deviation);
    set(VOICING, is_voiced);
    set(PITCH, is_voiced ? (std::log(hertz) - voice.pitch) / voice.pitch_deviation : 0);
    for (int component = 0; component < components_; ++component) set(SOURCE + component, scratch.shape[component]);
}

void FrameCoding::decode(const float* encoded, const FrameVoice& voice, FrameScratch& scratch, float* frame) const {
    std::vector<double>& values = scratch.values;
    std::fill(values.begin(), values.end(), 0.0);
    add_product(synthesis_, encoded + SOURCE, components_, mel_.bands, values.data());
    for (int band = 0; band < mel_.bands; ++band) values[band] += voice.mean[band];
    const double missing = encoded[LOUDNESS] * voice.loudness_deviation + voice.loudness - loudness(values);
    const double silence = std::log(mel_.floor);
    for (int band = 0; band < mel_.bands; ++band)
        frame[band] = float(std::min(std::max(silence, values[band] + missing), LARGEST));
}

double FrameCoding::periodicity(const float* encoded, const FrameVoice& voice, FrameScratch& scratch) const {
    decode(encoded, voice, scratch, scratch.frame.data());
    const double hertz = std::exp(encoded[PITCH] * voice.pitch_deviation + voice.pitch);
    const double wanted = std::log(mel_.sample_rate / std::clamp(hertz, LOWEST_PITCH, HIGHEST_PITCH));
    const auto distance = [&](int period) { return std::abs(log_periods_[period] - wanted); };
    int first = 0, last = predictor_.periods();
    while (first < last && !(distance(first) <= PITCH_TOLERANCE)) ++first;
    while (first < last && !(distance(last - 1) <= PITCH_TOLERANCE)) --last;
    predictor_.cepstrum(scratch.frame.data(), first, last, scratch.cepstrum.data());
    double largest = -std::numeric_limits<double>::infinity();
    for (int period = first; period < last; ++period)
        largest = std::max(largest, scratch.cepstrum[period - first] / predictor_.ripple(period));
    return largest;
}

float FrameCoding::loudness_at_level(const float* encoded, double level, const FrameVoice& voice,
                                     FrameScratch& scratch) const {
    decode(encoded, voice, scratch, scratch.frame.data());
    const double missing = level - 20 * std::log10(predictor_.rms(scratch.frame.data()));
    return float(encoded[LOUDNESS] + missing / NEPER_DB / voice.loudness_deviation);
}

float FrameCoding::encoded_pitch(double hertz, const FrameVoice& voice) const {
    return float((std::log(hertz) - voice.pitch) / voice.pitch_deviation);
}

float FrameCoding::clamped(float value, int dimension) const {
    const std::size_t dimensions = SOURCE + components_;
    return std::min(std::max(value, limits_[dimension]), limits_[dimensions + dimension]);
}

}  // namespace wavenet
