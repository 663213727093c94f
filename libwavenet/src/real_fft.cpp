// Of an even length N = 2 M, the samples x[2 j] + i x[2 j + 1] are transformed as M complex numbers to Z. The samples x[2 j]
// have the spectrum E[k] = (Z[k] + Z[M - k]*) / 2, the others O[k] = (Z[k] - Z[M - k]*) / 2 i, and the whole is
// X[k] = E[k] + e^(-2 pi i k / N) O[k] (Press et al., Numerical Recipes, section 12.3). An inverse transform is the
// conjugate of the transform of the conjugates.
#include "real_fft.h"

#include <algorithm>
#include <cmath>

namespace wavenet {

RealFft::RealFft(int length)
    : length_(length),
      even_(length % 2 == 0),
      fft_(std::size_t(even_ ? length / 2 : length)),
      twiddles_(std::size_t(even_ ? length / 2 : 0)),
      input_(fft_.length()),
      output_(fft_.length()) {
    const double step = -2 * std::acos(-1.0) / length;
    for (std::size_t k = 0; k < twiddles_.size(); ++k) twiddles_[k] = std::polar(1.0, step * double(k));
}

void RealFft::forward(const double* samples, Complex* spectrum) {
    if (!even_) {
        std::copy(samples, samples + length_, input_.begin());
        fft_.transform(input_.data(), output_.data());
        std::copy(output_.begin(), output_.begin() + bins(), spectrum);
        return;
    }
    const int half = length_ / 2;
    for (int j = 0; j < half; ++j) input_[j] = Complex(samples[2 * j], samples[2 * j + 1]);
    fft_.transform(input_.data(), output_.data());
    spectrum[0] = output_[0].real() + output_[0].imag();
    spectrum[half] = output_[0].real() - output_[0].imag();
    for (int k = 1; k < half; ++k) {
        const Complex one = output_[k], other = std::conj(output_[half - k]);
        const Complex odd = (one - other) * twiddles_[k];
        spectrum[k] = 0.5 * (one + other + Complex(odd.imag(), -odd.real()));
    }
}

void RealFft::inverse(const Complex* spectrum, double* samples) {
    const double scale = 1.0 / double(fft_.length());
    if (!even_) {
        for (int k = 0; k < bins(); ++k) input_[k] = scale * std::conj(spectrum[k]);
        for (int k = bins(); k < length_; ++k) input_[k] = scale * spectrum[length_ - k];
        fft_.transform(input_.data(), output_.data());
        for (int i = 0; i < length_; ++i) samples[i] = output_[i].real();
        return;
    }
    const int half = length_ / 2;
    for (int k = 0; k < half; ++k) {
        const Complex one = spectrum[k], other = std::conj(spectrum[half - k]);
        const Complex odd = (one - other) * std::conj(twiddles_[k]);
        input_[k] = 0.5 * scale * std::conj(one + other + Complex(-odd.imag(), odd.real()));
    }
    fft_.transform(input_.data(), output_.data());
    for (int j = 0; j < half; ++j) {
        samples[2 * j] = output_[j].real();
        samples[2 * j + 1] = -output_[j].imag();
    }
}

}  // namespace wavenet
