// Linear prediction and pitch from log-mel frames: the same as wavenet/nn/linear_prediction.py, where it is explained.
#pragma once

#include <vector>

#include "model_config.h"

namespace wavenet {

class FramePredictor {
public:
    // order: of the predictor, or 0 for the pitch alone.
    FramePredictor(const MelConfig& mel, int order);

    // The pitch of a frame, arbitrary if it is not voiced.
    struct Pitch {
        int period;  // samples
        bool voiced;
    };
    // Memory for the calculations of one stream.
    struct Workspace {
        std::vector<double> correlation, cepstrum;  // [order + 1], [periods]
    };
    Workspace workspace() const { return {std::vector<double>(order_ + 1), std::vector<double>(periods_)}; }
    Pitch pitch(const float* frame, Workspace& workspace) const;  // of a frame [bands]
    // The predictor of a frame [bands]: coefficients, gain, RMS and the given pitch period, [order + 3].
    void predict(const float* frame, int period, Workspace& workspace, double* row) const;
    double rms(const float* frame) const;  // of a frame [bands]

    int shortest_period() const { return shortest_; }  // samples
    int periods() const { return periods_; }           // their number
    // The cepstrum of a frame [bands] at the pitch periods from the shortest one + `first` on, [last - first].
    void cepstrum(const float* frame, int first, int last, double* values) const;
    // The cepstrum at a pitch period, the shortest one + `index`, of a frame that has a ripple of it of 1 neper.
    double ripple(int index) const { return ripple_[index]; }

private:
    const int bands_, order_, shortest_, periods_;
    const double exponent_;            // from features to the logarithm of power
    std::vector<double> band_scale_;   // [bands]: from a band's squared sum to the power per bin of the spectrum
    std::vector<double> correlation_;  // [bands][order + 1]: from power to autocorrelation
    std::vector<double> cepstrum_;     // [bands][periods]: from features to the cepstrum at every pitch period
    std::vector<double> ripple_;       // [periods]
};

}  // namespace wavenet
