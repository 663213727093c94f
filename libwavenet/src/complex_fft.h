// The Fourier transform of complex numbers, by KISS FFT (third_party/kissfft, BSD-3-Clause).
#pragma once

#include <complex>
#include <cstddef>
#include <vector>

#include "../third_party/kissfft/kissfft.hh"

namespace wavenet {

// Of any length from 1 on: the time per number grows with the logarithm of the length. A length with a large prime
// factor takes several times as long. Copyable; not for several threads at once.
class ComplexFft {
public:
    using Complex = std::complex<double>;

    explicit ComplexFft(std::size_t length);

    std::size_t length() const { return length_; }
    // The sums over j of input[j] e^(-2 pi i j k / length), [length]; allocates nothing. Not in place.
    void transform(const Complex* input, Complex* output);

private:
    void convolve(const Complex* input, Complex* output);

    std::size_t length_;
    kissfft<double> fft_;          // of the length, or of a longer one that it needs for a convolution, which takes
    std::vector<Complex> chirp_;   // [length] e^(-pi i j^2 / length), and
    std::vector<Complex> kernel_;  // the transform of its conjugate, divided by the longer length
    std::vector<Complex> time_, frequency_;
};

}  // namespace wavenet
