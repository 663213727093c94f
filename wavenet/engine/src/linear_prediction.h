// Linear prediction for a 16-bit network: the same as wavenet/nn/linear_prediction.py, where it is explained.
#pragma once

#include <vector>

#include "config.h"

namespace wavenet {

constexpr double INPUT_LIMIT = 16;  // the network's inputs are clipped here

// The linear predictors of some streams.
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

    // Predicts a stream's next sample from the last one, relative to full scale, and computes the network's inputs
    // [3 + pitch taps]. predictor [order + 3]: coefficients, gain, RMS and pitch period of the next sample's frame.
    void next(int stream, double last, const double* predictor, float* inputs);
    // Converts the output parameters [A] of the prediction residual to those of the sample: means and log scales.
    void shift(int stream, const Config& config, float* parameters) const;

private:
    int order_, taps_, reach_;
    std::vector<double> past_;               // [streams][order], the last sample first
    std::vector<double> prediction_, gain_;  // [streams], the last prediction and its gain
    std::vector<double> residuals_;          // [streams][reach], ring buffers of prediction residuals
    std::vector<int> newest_;                // [streams], position of the newest residual; older ones follow
};

}  // namespace wavenet
