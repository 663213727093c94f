// Matrix-vector products at frame rate, the same loops for every instruction set, compiled with each. Unlike those of
// product.h they never fuse a multiplication and an addition, so that the conditioning, and with it what int8 weights
// compute, is the same to the last bit on every machine.
#pragma once

#include <cstring>

#include "kernels.h"

namespace wavenet {
namespace {

#ifdef __GNUC__  // the machine's vectors; GCC computes larger ones in memory
#if defined(__AVX512F__)
typedef float FrameVector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float FrameVector __attribute__((vector_size(32)));
#else
typedef float FrameVector __attribute__((vector_size(16)));
#endif
#else
using FrameVector = float;
#endif

// The sums of one tile for a few frames stay in registers. Each adds the inputs in order.
template <int FRAMES>
inline void frame_tile(const float* weights, int inputs, const float* x, std::size_t x_stride, float* y,
                       std::size_t y_stride) {
    constexpr int WIDTH = sizeof(FrameVector) / sizeof(float), VECTORS = TILE / WIDTH;
    FrameVector sums[FRAMES][VECTORS];
    for (int f = 0; f < FRAMES; ++f) std::memcpy(sums[f], y + f * y_stride, sizeof(sums[f]));
    for (int i = 0; i < inputs; ++i, weights += TILE) {
        FrameVector w[VECTORS];
        std::memcpy(w, weights, sizeof(w));
        for (int f = 0; f < FRAMES; ++f)
            for (int v = 0; v < VECTORS; ++v) sums[f][v] += w[v] * x[f * x_stride + i];
    }
    for (int f = 0; f < FRAMES; ++f) std::memcpy(y + f * y_stride, sums[f], sizeof(sums[f]));
}

// Several frames at once where there are registers for their sums: the weights are then loaded once for all of them.
void frame_product(const FrameProduct& p) {
    constexpr int AT_ONCE = sizeof(FrameVector) >= 32 ? sizeof(FrameVector) / 16 : 1;  // frames
    for (int row = 0; row < p.rows; row += TILE) {
        const float* const weights = p.weights + std::size_t(row) * p.inputs;
        int f = 0;
        for (; f + AT_ONCE <= p.frames; f += AT_ONCE)
            frame_tile<AT_ONCE>(weights, p.inputs, p.x + f * p.x_stride, p.x_stride, p.y + f * p.y_stride + row,
                                p.y_stride);
        for (; f < p.frames; ++f)
            frame_tile<1>(weights, p.inputs, p.x + f * p.x_stride, p.x_stride, p.y + f * p.y_stride + row, p.y_stride);
    }
}

}  // namespace
}  // namespace wavenet
