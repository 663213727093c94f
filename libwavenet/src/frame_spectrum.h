// What a log-mel frame tells about the spectrum of its audio: the autocorrelation, and the cepstrum at every pitch
// period. The same as in wavenet/nn/linear_prediction.py, where it is explained.
#pragma once

#include <vector>

#include "model_config.h"

namespace wavenet {

class FrameSpectrum {
public:
    // order: the last lag of the autocorrelation.
    FrameSpectrum(const MelConfig& mel, int order);

    // The autocorrelation [order + 1] of a log-mel frame [bands].
    void autocorrelation(const float* frame, double* correlation) const;
    double rms(const float* frame) const;  // of the audio, relative to full scale

    int shortest_period() const { return shortest_; }  // samples
    int periods() const { return periods_; }           // number of pitch periods
    // The cepstrum of the low bands at pitch periods: `values` [last - first] at shortest_period() + first and on.
    void cepstrum(const float* frame, int first, int last, double* values) const;
    // The share of a spectrum's ripple at each pitch period that the bands leave, relative to the largest.
    double resolution(int period) const { return resolution_[period]; }

private:
    struct Filter;
    struct Bin;
    class Cosines;
    void set_cepstrum(const MelConfig& mel, const std::vector<Bin>& bins);
    void set_resolution(const std::vector<Filter>& filters, const Cosines& cosine);
    static std::vector<Filter> mel_filters(const MelConfig& mel);
    static std::vector<Bin> spectrum_bins(const std::vector<Filter>& filters, int count);

    int bands_, order_, shortest_, periods_;
    double exponent_;                  // from a feature to the logarithm of a power
    std::vector<double> scale_;        // [bands], from a band to the power of the audio per bin
    std::vector<double> correlation_;  // [bands][order + 1]
    std::vector<double> cepstrum_;     // [bands][periods]
    std::vector<double> resolution_;   // [periods]
};

}  // namespace wavenet
