// Matrix-vector products, the same loops for every instruction set. Included by each kernel file, which supplies `Set`:
// the arithmetic on panels of 16 rows in its own instructions.
#pragma once

#include "kernels.h"

#ifndef WAVENET_INLINE  // a call takes as long as a quarter of a small product
#if defined(__GNUC__)
#define WAVENET_INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define WAVENET_INLINE __forceinline
#else
#define WAVENET_INLINE inline
#endif
#endif

namespace wavenet {
namespace {

// Weights are read in order, so they can be prefetched: at this distance they arrive from the last-level cache as fast as
// they are used.
constexpr int PREFETCHED_BYTES = 1024;

WAVENET_INLINE void prefetch(const void* weights) {
#if defined(__GNUC__)
    __builtin_prefetch(static_cast<const char*>(weights) + PREFETCHED_BYTES);
#else
    (void)weights;
#endif
}

// A few panels of rows for a few streams. All of their sums stay in registers, and successive additions are independent:
// a multiply-add takes about four cycles and up to two can begin in each cycle, so that with a single sum the processor
// would mostly wait. `stride`: weights from one input (int8: pair of inputs) to the next within a tile.
template <class Set, int PANELS, int STREAMS>
WAVENET_INLINE void block(const Product<typename Set::Weight, typename Set::Input, typename Set::Sum>& p,
                          const typename Set::Weight* weights, int stride, const typename Set::Input* x,
                          typename Set::Sum* y) {
    constexpr int UNROLLED = STREAMS == 1 ? 4 : 1;
    constexpr int TILES = (PANELS + 1) / 2, PER_TILE = PANELS / TILES;
    typename Set::Panel sums[PANELS][STREAMS];
    for (int panel = 0; panel < PANELS; ++panel)
        for (int s = 0; s < STREAMS; ++s)
            sums[panel][s] = p.fresh ? Set::zero() : Set::load(y + s * p.y_stride + panel * PANEL);
    for (int i = 0; i < p.inputs; i += UNROLLED * Set::STEP) {
#if defined(__GNUC__)
#pragma GCC unroll 4
#endif
        for (int u = 0; u < UNROLLED; ++u, weights += stride) {
            for (int panel = 0; panel < PANELS; ++panel) {
                const auto* const at =
                    weights + panel / PER_TILE * p.tile_stride + panel % PER_TILE * PANEL * Set::STEP;
                if (panel % PER_TILE == 0) prefetch(at);
                const auto w = Set::weights(at);
                for (int s = 0; s < STREAMS; ++s)
                    Set::add(sums[panel][s], w, Set::broadcast(x + s * p.x_stride + i + u * Set::STEP));
            }
        }
    }
    for (int panel = 0; panel < PANELS; ++panel)
        for (int s = 0; s < STREAMS; ++s) Set::store(sums[panel][s], y + s * p.y_stride + panel * PANEL);
}

constexpr int GROUP = 4;  // panels, two tiles: their weights stay in the first-level cache for all streams
constexpr int STREAMS_AT_ONCE = 4;

// Up to GROUP panels of rows, from `row` on, for a few streams.
template <class Set, int STREAMS>
WAVENET_INLINE void group(const Product<typename Set::Weight, typename Set::Input, typename Set::Sum>& p, int row,
                          int panels, const typename Set::Input* x, typename Set::Sum* y) {
    constexpr int MOST = Set::panels(STREAMS), WHOLE = 2 * PANEL * Set::STEP;
    int panel = 0;
    while (panel < panels) {
        const int per_tile = panels - panel / 2 * 2 >= 2 ? 2 : 1;
        const auto* const weights = p.weights + (row + panel * PANEL) / TILE * p.tile_stride +
                                    std::size_t(p.first) * per_tile * PANEL + panel % 2 * PANEL * Set::STEP;
        auto* const sums = y + row + panel * PANEL;
        if (MOST >= 4 && panels - panel >= 4) {
            block<Set, MOST >= 4 ? 4 : 1, STREAMS>(p, weights, WHOLE, x, sums);
            panel += 4;
        } else if (MOST >= 2 && panels - panel >= 2) {
            block<Set, MOST >= 2 ? 2 : 1, STREAMS>(p, weights, WHOLE, x, sums);
            panel += 2;
        } else {
            block<Set, 1, STREAMS>(p, weights, per_tile * PANEL * Set::STEP, x, sums);
            panel += 1;
        }
    }
}

template <class Set>
void product(const Product<typename Set::Weight, typename Set::Input, typename Set::Sum>& p) {
    for (int row = 0; row < p.rows; row += GROUP * PANEL) {
        const int panels = p.rows - row >= GROUP * PANEL ? GROUP : (p.rows - row) / PANEL;
        for (int s = 0; s < p.streams; s += STREAMS_AT_ONCE) {
            const auto* const x = p.x + s * p.x_stride;
            auto* const y = p.y + s * p.y_stride;
            const int streams = p.streams - s;
            if (streams == 1) group<Set, 1>(p, row, panels, x, y);
            else if (streams == 2) group<Set, 2>(p, row, panels, x, y);
            else if (streams == 3) group<Set, 3>(p, row, panels, x, y);
            else group<Set, STREAMS_AT_ONCE>(p, row, panels, x, y);
        }
    }
}

// Independent multiply-adds on registers, to measure the peak of this instruction set. Returns their number.
template <class Set>
double multiply_adds(int rounds) {
    constexpr int WEIGHTS = Set::PEAK_WEIGHTS, INPUTS = Set::PEAK_INPUTS, STEPS = 8;
    typename Set::Weight weights[WEIGHTS * PANEL * Set::STEP];
    typename Set::Input inputs[STEPS * INPUTS * Set::STEP];
    typename Set::Sum result[PANEL];
    for (auto& weight : weights) weight = 1;
    for (auto& input : inputs) input = 1;
    typename Set::Panel sums[WEIGHTS][INPUTS];
    for (auto& row : sums)
        for (auto& sum : row) sum = Set::zero();
    const volatile int none = 0;  // the compiler must not see that every round reads the same inputs
    for (int round = 0; round < rounds; ++round) {
        const auto* const x = inputs + none;
        for (int step = 0; step < STEPS; ++step)
            for (int w = 0; w < WEIGHTS; ++w)
                for (int i = 0; i < INPUTS; ++i)
                    Set::add(sums[w][i], Set::weights(weights + w * PANEL * Set::STEP),
                             Set::broadcast(x + (step * INPUTS + i) * Set::STEP));
    }
    volatile typename Set::Sum used;  // so that the compiler omits nothing
    for (auto& row : sums)
        for (auto& sum : row) {
            Set::store(sum, result);
            used = result[0];
        }
    (void)used;
    return double(rounds) * STEPS * WEIGHTS * INPUTS * PANEL * Set::STEP;
}

}  // namespace
}  // namespace wavenet
