// The mel filters of log-mel spectrograms, and the values that features can have: as in wavenet/features.py and
// wavenet/engine/feature_check.py.
#pragma once

#include <numeric>
#include <vector>

#include "model_config.h"

namespace wavenet {

// A triangular mel filter: the weights of the bins from `first` on, none for a band that is too narrow to have a bin.
struct MelFilter {
    int first = 0;
    std::vector<double> weights;
    double sum() const { return std::accumulate(weights.begin(), weights.end(), 0.0); }
};
std::vector<MelFilter> mel_filters(const MelConfig& mel);  // [bands]
// The periodic Hann window [size].
std::vector<double> hann_window(int size);

constexpr double OVERSHOOT = 2.0;  // amplitude that decoded and resampled audio may reach

// The features that audio in [-1, 1] can have, with a margin for rounding and overshoots.
struct FeatureLimits {
    double lowest, highest;
};
FeatureLimits feature_limits(const MelConfig& mel);

}  // namespace wavenet
