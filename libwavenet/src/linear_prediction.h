// Linear prediction for a 16-bit network: the same as wavenet/nn/linear_prediction.py, where it is explained.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"

namespace wavenet {

constexpr double INPUT_LIMIT = 16;            // the network's inputs are clipped here
constexpr double MIN_GAIN = 1.0 / (1 << 16);  // half a step of 16-bit audio, added to gain and RMS

// The Levinson-Durbin recursion: predictor coefficients [order] for an autocorrelation [order + 1]. Returns the power of
// the residual.
double levinson(const double* correlation, int order, double* a);

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
          newest_(streams),
          window_(int(config.adaptation_weights.size())),
          recent_(std::size_t(window_) * streams),
          adapted_(config.adaptation_hop ? std::size_t(order_ + 2) * streams : 0),
          weighted_(window_),
          correlation_(order_ + 1) {}

    // Predicts a stream's next sample from the last one, relative to full scale, and computes the network's inputs
    // [3 + pitch taps]. predictor [order + 3]: coefficients, gain, RMS and pitch period of the next sample's frame.
    void next(int stream, double last, const double* predictor, float* inputs);
    // The same if the predictor is backward-adaptive: updated at some positions t, of the next sample, from the samples
    // before it. Inputs [5].
    void next_adaptive(int stream, double last, std::uint64_t t, const Config& config, float* inputs);
    // Converts the output parameters [A] of the prediction residual to those of the sample: means and log scales.
    void shift(int stream, const Config& config, float* parameters) const;

private:
    void update(const Config& config, const double* recent, std::uint64_t t, double* adapted);

    int order_, taps_, reach_;
    std::vector<double> past_;               // [streams][order], the last sample first
    std::vector<double> prediction_, gain_;  // [streams], the last prediction and its gain
    std::vector<double> residuals_;          // [streams][reach], ring buffers of prediction residuals
    std::vector<int> newest_;                // [streams], position of the newest residual; older ones follow
    // backward-adaptive prediction
    int window_;
    std::vector<double> recent_;   // [streams][window], ring buffers of samples: that of time t is at t mod window
    std::vector<double> adapted_;  // [streams][order + 2]: coefficients, gain and RMS
    std::vector<double> weighted_, correlation_;  // [window], [order + 1]: of an update
};

}  // namespace wavenet
