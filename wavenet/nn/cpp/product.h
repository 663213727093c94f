// Matrix products, the same loops for every instruction set: the including file defines VECTOR, the floats of a register.
#pragma once

#include <cstring>

#include "kernels.h"

namespace wavenet {
namespace {

typedef float Vector __attribute__((vector_size(VECTOR * sizeof(float)), aligned(4), may_alias));

constexpr int ROWS = 6;  // of a tile: its ROWS x VECTORS sums stay in registers
constexpr int VECTORS = VECTOR == 16 ? 4 : 2;
constexpr int COLUMNS = VECTORS * VECTOR;
constexpr int DEPTH = 256;  // terms that are added at once: a packed panel stays in the caches

// A matrix whose elements are `row` and `column` floats apart.
struct Strided {
    const float* data;
    std::size_t row, column;
    const float* at(std::size_t i, std::size_t j) const { return data + i * row + j * column; }
};

// sums[r][v] = (c, or 0) + sum over k of a[r, k] b[k, v]
template <int R, int V>
inline __attribute__((always_inline)) void tile(const float* a, std::size_t a_row, std::size_t a_step, int depth,
                                                const float* b, float* c, std::size_t c_row, bool fresh) {
    Vector sums[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
            if (fresh) sums[r][v] = Vector{};
            else sums[r][v] = *reinterpret_cast<const Vector*>(c + r * c_row + v * VECTOR);
        }
    for (int k = 0; k < depth; ++k, a += a_step, b += V * VECTOR) {
        Vector w[V];
        for (int v = 0; v < V; ++v) w[v] = *reinterpret_cast<const Vector*>(b + v * VECTOR);
        for (int r = 0; r < R; ++r) {
            const float x = a[r * a_row];
            for (int v = 0; v < V; ++v) sums[r][v] += x * w[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(c + r * c_row + v * VECTOR) = sums[r][v];
}

// All rows of V vectors of columns; b is packed.
template <int V>
void panel(std::size_t rows, const Strided& a, int depth, const float* b, float* c, std::size_t c_row, bool fresh) {
    std::size_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        tile<ROWS, V>(a.at(row, 0), a.row, a.column, depth, b, c + row * c_row, c_row, fresh);
    const float* const left = a.at(row, 0);
    c += row * c_row;
    switch (rows - row) {
    case 5:
        tile<5, V>(left, a.row, a.column, depth, b, c, c_row, fresh);
        break;
    case 4:
        tile<4, V>(left, a.row, a.column, depth, b, c, c_row, fresh);
        break;
    case 3:
        tile<3, V>(left, a.row, a.column, depth, b, c, c_row, fresh);
        break;
    case 2:
        tile<2, V>(left, a.row, a.column, depth, b, c, c_row, fresh);
        break;
    case 1:
        tile<1, V>(left, a.row, a.column, depth, b, c, c_row, fresh);
        break;
    }
}

// c [rows, columns] = a b, or with `add`, c += a b. a [rows, depth] has any strides, b [depth, columns] and c have rows of
// adjacent elements. columns: a multiple of PANEL.
void product(std::size_t rows, int columns, std::size_t depth, Strided a, const float* b, std::size_t b_row, float* c,
             std::size_t c_row, bool add) {
    alignas(64) float packed[DEPTH * COLUMNS];
    for (std::size_t first = 0; first < depth; first += DEPTH) {
        const int terms = depth - first < DEPTH ? int(depth - first) : DEPTH;
        const Strided part{a.at(0, first), a.row, a.column};
        for (int column = 0, width = 0; column < columns; column += width) {
            width = columns - column >= COLUMNS ? COLUMNS : columns - column >= COLUMNS / 2 ? COLUMNS / 2 : PANEL;
            for (int k = 0; k < terms; ++k)
                std::memcpy(packed + k * width, b + (first + k) * b_row + column, width * sizeof(float));
            const bool fresh = !add && first == 0;
            float* const sums = c + column;
            if (width == COLUMNS) panel<VECTORS>(rows, part, terms, packed, sums, c_row, fresh);
            else if (width == COLUMNS / 2) panel<(VECTORS + 1) / 2>(rows, part, terms, packed, sums, c_row, fresh);
            else panel<PANEL / VECTOR>(rows, part, terms, packed, sums, c_row, fresh);
        }
    }
}

}  // namespace
}  // namespace wavenet
