// Linear prediction beside a 16-bit network; the same as wavenet/prediction.py, which says what it is for.
#pragma once

#include <vector>

#include "config.h"

namespace wavenet {

constexpr double MOST_INPUT = 16;  // what the network is given is cut there

// The predictions of some streams, sample by sample.
class Predictor {
public:
    Predictor(const Config& config, int streams)
        : order_(config.order),
          taps_(config.pitch_taps),
          reach_(config.pitch_reach),
          past_(std::size_t(order_) * streams),
          sample_(streams),
          gain_(streams, 1.0),
          lefts_(std::size_t(reach_) * streams),
          newest_(streams) {}

    // Given a stream's last sample in full scale, predicts its next one: the network's inputs [3 + pitch taps].
    // row [order + 3]: coefficients, gain, level and pitch period of the frame that holds the next sample.
    void next(int stream, double last, const double* row, float* inputs);
    // The head's numbers [A] about what is left over become numbers about the sound: means and log scales move.
    void shift(int stream, const Config& config, float* numbers) const;

private:
    int order_, taps_, reach_;
    std::vector<double> past_;           // [streams][order], the last sample first
    std::vector<double> sample_, gain_;  // [streams], of the last prediction
    std::vector<double> lefts_;          // [streams][reach], rings of what was left over
    std::vector<int> newest_;            // [streams], its place in the ring; what is older lies behind it
};

}  // namespace wavenet
