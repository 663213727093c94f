#include "level_feedback.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "config.h"

namespace wavenet {
namespace {

constexpr double FRAME_SECONDS = 0.010, LEVEL_SECONDS = 0.5, SILENT_SECONDS = 1.0;
constexpr double LEVEL_FEEDBACK = 0.1, SILENT_FEEDBACK = 2.0, LOWEST_IN_PAUSES = 0.8, HIGHEST_IN_PAUSES = 1.2;
constexpr double PAUSE_DB = 24, SILENT_DBFS = -50;

double power_of(double decibels) { return std::pow(10.0, decibels / 10); }

}  // namespace

LevelFeedback::LevelFeedback(const RecordedLevels& recorded, int sample_rate)
    : recorded_(recorded), frame_(std::size_t(std::max(1.0, std::nearbyint(FRAME_SECONDS * sample_rate)))) {
    for (double& loud : recorded_.loud) loud = power_of(loud);
    loud_ = recorded_.loud[0];
    silent_ = recorded_.silent[0];
}

void LevelFeedback::speak(const float* shares) {
    loud_ = silent_ = 0;
    for (std::size_t i = 0; i < recorded_.loud.size(); ++i) {
        loud_ += double(shares[i]) * recorded_.loud[i];
        silent_ += double(shares[i]) * recorded_.silent[i];
    }
}

double LevelFeedback::temperature(double wanted) {
    if (!running_) {
        running_ = paused_ = true;
        running_loud_ = loud_;
        running_silent_ = silent_;
        energy_ = 0;
        length_ = 0;
    }
    if (paused_)
        return std::clamp(1 + SILENT_FEEDBACK * (running_silent_ - silent_), LOWEST_IN_PAUSES, HIGHEST_IN_PAUSES);
    const double missing = 10 * std::log10(loud_ / running_loud_);  // dB
    return std::clamp(wanted + LEVEL_FEEDBACK * missing, wanted, std::max(wanted, 1.0));
}

void LevelFeedback::add(const float* samples, std::size_t n, std::uint64_t position) {
    for (std::size_t i = 0; i < n; ++i) {
        const auto steps = std::int64_t(std::nearbyint(double(samples[i]) * FULL_SCALE));
        energy_ += steps * steps;
    }
    length_ += n;
    if (n < left(position)) return;
    const double power = double(energy_) / (double(length_) * FULL_SCALE * FULL_SCALE);
    paused_ = power < loud_ / power_of(PAUSE_DB);
    const double level = std::exp(-FRAME_SECONDS / LEVEL_SECONDS), share = std::exp(-FRAME_SECONDS / SILENT_SECONDS);
    if (!paused_) running_loud_ = level * running_loud_ + (1 - level) * power;
    running_silent_ = share * running_silent_ + (1 - share) * (power < power_of(SILENT_DBFS) ? 1 : 0);
    energy_ = 0;
    length_ = 0;
}

}  // namespace wavenet
