// The loops of a product, the same for every instruction set. Included by each kernel file, which brings `Set`:
// the arithmetic on panels of 16 rows, in that file's own instructions.
#pragma once

#include "kernels.h"

namespace wavenet {
namespace {

// Weights are read straight through, so they can be asked for ahead of time: this far ahead they come out of the
// last-level cache as fast as they are used.
constexpr int PREFETCHED_BYTES = 1024;

inline void prefetch(const void* weights) {
#if defined(__GNUC__)
    __builtin_prefetch(static_cast<const char*>(weights) + PREFETCHED_BYTES);
#else
    (void)weights;
#endif
}

// One stream: a whole tile at once.
template <class Set, int PANELS>
inline void one_stream(const typename Set::Weight* w, const typename Set::Input* x, int inputs, typename Set::Sum* y,
                       bool fresh) {
    constexpr int UNROLLED = 4;
    typename Set::Panel sums[PANELS];
    for (int p = 0; p < PANELS; ++p) sums[p] = fresh ? Set::zero() : Set::load(y + PANEL * p);
    for (int i = 0; i < inputs; i += UNROLLED * Set::STEP) {
#if defined(__GNUC__)
#pragma GCC unroll 4
#endif
        for (int u = 0; u < UNROLLED; ++u) {
            const auto input = Set::broadcast(x + i + u * Set::STEP);
            prefetch(w);
            for (int p = 0; p < PANELS; ++p) {
                Set::add(sums[p], Set::weights(w), input);
                w += PANEL * Set::STEP;
            }
        }
    }
    for (int p = 0; p < PANELS; ++p) Set::store(sums[p], y + PANEL * p);
}

// Several streams: one panel at a time, its weights loaded once for all of them.
template <class Set, int STREAMS>
inline void many_streams(const typename Set::Weight* w, int stride, const typename Set::Input* x, std::size_t x_stride,
                         int inputs, typename Set::Sum* y, std::size_t y_stride, bool fresh) {
    typename Set::Panel sums[STREAMS];
    for (int s = 0; s < STREAMS; ++s) sums[s] = fresh ? Set::zero() : Set::load(y + s * y_stride);
    for (int i = 0; i < inputs; i += Set::STEP) {
        prefetch(w);
        const auto weights = Set::weights(w);
        for (int s = 0; s < STREAMS; ++s) Set::add(sums[s], weights, Set::broadcast(x + s * x_stride + i));
        w += stride;
    }
    for (int s = 0; s < STREAMS; ++s) Set::store(sums[s], y + s * y_stride);
}

template <class Set>
void product(const Product<typename Set::Weight, typename Set::Input, typename Set::Sum>& p) {
    for (int row = 0; row < p.rows; row += TILE) {
        const int panels = p.rows - row >= TILE ? TILE / PANEL : 1;
        const auto* tile = p.weights + row / TILE * p.tile_stride + std::size_t(p.first) * panels * PANEL;
        for (int s = 0; s < p.streams; s += 4) {
            const auto* x = p.x + s * p.x_stride;
            auto* y = p.y + s * p.y_stride + row;
            const int streams = p.streams - s < 4 ? p.streams - s : 4;
            if (streams == 1) {
                if (panels == 2) one_stream<Set, 2>(tile, x, p.inputs, y, p.fresh);
                else one_stream<Set, 1>(tile, x, p.inputs, y, p.fresh);
                continue;
            }
            const int stride = panels * PANEL * Set::STEP;
            for (int panel = 0; panel < panels; ++panel) {
                const auto* w = tile + panel * PANEL * Set::STEP;
                auto* out = y + panel * PANEL;
                if (streams == 2)
                    many_streams<Set, 2>(w, stride, x, p.x_stride, p.inputs, out, p.y_stride, p.fresh);
                else if (streams == 3)
                    many_streams<Set, 3>(w, stride, x, p.x_stride, p.inputs, out, p.y_stride, p.fresh);
                else
                    many_streams<Set, 4>(w, stride, x, p.x_stride, p.inputs, out, p.y_stride, p.fresh);
            }
        }
    }
}

}  // namespace
}  // namespace wavenet
