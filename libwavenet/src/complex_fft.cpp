// Because j k = (j^2 + k^2 - (k - j)^2) / 2, a transform is a convolution with a chirp, which shorter transforms of any
// greater length compute (Bluestein 1970, "A linear filtering approach to the computation of discrete Fourier transform").
// kissfft takes p operations per number for a prime factor p.
#include "complex_fft.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>

namespace wavenet {
namespace {

constexpr std::size_t LARGEST_FACTOR = 31;  // with larger ones the convolution is faster

std::size_t transform_length(std::size_t length) {
    std::size_t rest = length, longer = 1;
    for (std::size_t factor = 2; factor <= LARGEST_FACTOR; ++factor)
        while (rest % factor == 0) rest /= factor;
    if (rest == 1) return length;
    while (longer < 2 * length - 1) longer *= 2;
    return longer;
}

}  // namespace

ComplexFft::ComplexFft(std::size_t length) : length_(length), fft_(transform_length(length), false) {
    const std::size_t longer = transform_length(length);
    if (longer != length) {
        chirp_.resize(length);
        kernel_.resize(longer);
        time_.resize(longer);
        frequency_.resize(longer);
        for (std::uint64_t j = 0; j < length; ++j)  // j^2 modulo the period, which keeps the angle exact
            chirp_[j] = std::polar(1.0, -std::acos(-1.0) * double(j * j % (2 * length)) / double(length));
        for (std::size_t j = 0; j < length; ++j) time_[j] = time_[(longer - j) % longer] = std::conj(chirp_[j]);
        fft_.transform(time_.data(), kernel_.data());
        for (Complex& value : kernel_) value /= double(longer);
    } else {  // kissfft allocates memory in the first transform
        const std::vector<Complex> input(length);
        std::vector<Complex> output(length);
        fft_.transform(input.data(), output.data());
    }
}

void ComplexFft::transform(const Complex* input, Complex* output) {
    if (kernel_.empty()) fft_.transform(input, output);
    else convolve(input, output);
}

void ComplexFft::convolve(const Complex* input, Complex* output) {
    std::transform(input, input + length_, chirp_.begin(), time_.begin(), std::multiplies<>());
    std::fill(time_.begin() + std::ptrdiff_t(length_), time_.end(), Complex());
    fft_.transform(time_.data(), frequency_.data());
    // the conjugate's transform is the conjugate of the inverse transform
    for (std::size_t k = 0; k < frequency_.size(); ++k) frequency_[k] = std::conj(frequency_[k] * kernel_[k]);
    fft_.transform(frequency_.data(), time_.data());
    for (std::size_t k = 0; k < length_; ++k) output[k] = std::conj(time_[k]) * chirp_[k];
}

}  // namespace wavenet
