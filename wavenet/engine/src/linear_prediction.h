// Linear prediction beside a 16-bit network; the same as wavenet/nn/linear_prediction.py, which explains it.
#pragma once

#include <vector>

#include "config.h"

namespace wavenet {

constexpr double MAX_INPUT = 16;  // the network's inputs are clipped here

// The predictions of some streams, sample by sample.
class LinearPredictor {
public:
    LinearPredictor(const Config& config, int streams)
        : order_(config.prediction_order),
          taps_(config.pitch_taps),
          reach_(config.pitch_reach),
          past_(std::size_t(order_) * streams),
          prediction_(streams),
          gain_(streams, 1.0),
          residuals_(std::size_t(reach_) * streams),
          newest_(streams) {}

    // Takes a stream's last sample, in full scale, and predicts the next: the network's inputs [3 + pitch taps].
    // predictor [order + 3]: coefficients, gain, RMS and pitch period of the frame that holds the next sample.
    void next(int stream, double last, const double* predictor, float* inputs);
    // Turns the output parameters [A] of the prediction residual into those of the sample: means and log scales.
    void shift(int stream, const Config& config, float* parameters) const;

private:
    int order_, taps_, reach_;
    std::vector<double> past_;               // [streams][order], the last sample first
    std::vector<double> prediction_, gain_;  // [streams], the last prediction and its gain
    std::vector<double> residuals_;          // [streams][reach], ring buffers of prediction residuals
    std::vector<int> newest_;                // [streams], position of the newest residual; older ones follow
};

}  // namespace wavenet
