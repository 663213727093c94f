// From a window of samples to its log-mel bands and back: what `MelAnalysis` and `Refinement` have in common.
#pragma once

#include <complex>
#include <vector>

#include "model_config.h"
#include "real_fft.h"

namespace wavenet {

// Samples before a frame's own hop samples that its window covers, as of wavenet/features.py; it may be negative.
int window_margin(const MelConfig& mel);

// Everything is allocated in the constructor. Copyable.
class MelTransform {
public:
    explicit MelTransform(const MelConfig& mel);

    const MelConfig& mel() const { return mel_; }
    // Keeps the spectrum of samples [window], weighted by the window. Samples must be finite.
    void analyse(const double* samples);
    // The features of this spectrum: the natural logarithms of the mel bands, [bands].
    const std::vector<double>& log_bands();
    // Changes each band of this spectrum by a gain, of which the natural logarithms [bands] are given, and spreads them
    // over the bins; adds what that changes in the samples [window], weighted by `weights` [window].
    void add_change(const double* log_gains, const double* weights, double* samples);

private:
    struct Band {  // the bins of a mel filter
        int first, bins;
        std::size_t weights;  // where its weights begin
    };

    MelConfig mel_;
    RealFft fft_;
    std::vector<double> window_;
    std::vector<Band> bands_;
    std::vector<double> filters_;                 // the weights of the bands' bins
    std::vector<double> spread_;                  // and as shares of the bands in each bin
    std::vector<double> padded_;                  // [fft]
    std::vector<std::complex<double>> spectrum_;  // [fft / 2 + 1]
    std::vector<double> bins_;                    // [fft / 2 + 1]
    std::vector<double> log_bands_;               // [bands]
};

}  // namespace wavenet
