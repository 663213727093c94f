// The arguments of one call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conditioning.h"
#include "sampling.h"

namespace wavenet {

// Some of the n samples of B streams; every array is [B][n]. The codes are either given, or drawn with uniform random
// numbers.
struct Request {
    std::size_t length = 0;                      // n
    std::size_t first = 0, samples = 0;          // `samples` samples from `first` on
    const Conditioning* conditioning = nullptr;  // of a conditioned network
    std::size_t offset = 0;                      // of sample `first` within the conditioning chunk
    const bool* muted = nullptr;                 // [L]: the layers whose z is 0; null: none
    const std::int64_t* given = nullptr;         // codes to feed; null: draw codes
    const double* uniforms = nullptr;            // to draw: uniform random numbers in [0, 1)
    Sampling sampling;                           // to draw: the options
    const double* temperatures = nullptr;        // to draw: instead of `sampling.temperature`; may be null
    std::int64_t* drawn = nullptr;               // to draw: receives the codes
    float* outputs = nullptr;                    // receives the output parameters [B][n][A]; may be null
    bool predicts() const { return uniforms || outputs; }
};

}  // namespace wavenet
