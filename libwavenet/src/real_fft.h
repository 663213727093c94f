// The Fourier transform of real signals.
#pragma once

#include <complex>
#include <vector>

#include "complex_fft.h"

namespace wavenet {

// Of any length from 2 on. Copyable; not for several threads at once.
class RealFft {
public:
    explicit RealFft(int length);

    int bins() const { return length_ / 2 + 1; }
    // The spectrum [bins] of samples [length]; and back, divided by the length. Both allocate nothing. Of finite numbers.
    void forward(const double* samples, std::complex<double>* spectrum);
    void inverse(const std::complex<double>* spectrum, double* samples);

private:
    using Complex = std::complex<double>;

    int length_;
    bool even_;                      // two samples are then one complex number
    ComplexFft fft_;                 // of the length or of half of it
    std::vector<Complex> twiddles_;  // [length / 2], e^(-2 pi i k / length); of an even length
    std::vector<Complex> input_, output_;
};

}  // namespace wavenet
