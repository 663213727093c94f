// Linear prediction beside a 16-bit network; the same as wavenet/prediction.py, which says what it is for.
#pragma once

#include <vector>

#include "config.h"

namespace wavenet {

constexpr double MOST_INPUT = 16;  // what the network is given is cut there

// The predictions of some streams, sample by sample.
class Predictor {
public:
    Predictor(int order, int streams)
        : order_(order), past_(std::size_t(order) * streams), sample_(streams), gain_(streams, 1.0) {}

    // Given a stream's last sample in full scale, predicts its next one: the network's inputs [3].
    // row [order + 2]: coefficients, gain and level of the frame that holds the next sample.
    void next(int stream, double last, const double* row, float* inputs);
    // The head's numbers [A] about what is left over become numbers about the sound: means and log scales move.
    void shift(int stream, const Config& config, float* numbers) const;

private:
    int order_;
    std::vector<double> past_;            // [streams][order], the last sample first
    std::vector<double> sample_, gain_;  // [streams], of the last prediction
};

}  // namespace wavenet
