// What one instruction set does for the engine: two tables of the same functions, for float32 and for int8 weights.
//
// A vector of channels is padded with zeros to whole panels of 16. A matrix is cut into tiles of 32 output rows, and
// stored tile by tile: for each input (int8: for each pair of inputs) the weights of all rows of the tile lie side by
// side, so that a product broadcasts an input, multiplies, adds, and never sums across a vector:
//
//     float32   w[tile][input][row]             y[row] += w * x[input]
//     int8      w[tile][pair][row][2]           y[row] += w0 * x[2 pair] + w1 * x[2 pair + 1]
//
// Every sum runs over the inputs in their order, one after the other, however the work is cut. So sums are the same to
// the last bit for any number of streams, threads or calls.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wavenet {

constexpr int PANEL = 16;  // rows; widths are padded to multiples of it
constexpr int TILE = 32;   // rows of a tile; the last tile of a matrix may have PANEL rows only
constexpr int MOST_LEVELS = 32766;  // of int16 activations, with one to spare for rounding

constexpr int padded(int width) { return (width + PANEL - 1) / PANEL * PANEL; }

// y += W x for some rows, some inputs and one or more streams.
template <class Weight, class Input, class Sum>
struct Product {
    const Weight* weights;    // first tile of the rows
    std::size_t tile_stride;  // weights in a tile: TILE times all inputs of the matrix
    int first;                // first input used, counted in the matrix; even
    int inputs;               // how many are used: a multiple of PANEL
    int rows;                 // a multiple of PANEL
    const Input* x;           // [streams][inputs]
    std::size_t x_stride;
    Sum* y;  // [streams][rows]
    std::size_t y_stride;
    int streams;
    bool fresh;  // y = W x instead
};

// Elementwise steps. `scale` [n] turns integer sums into numbers; float32 ignores it, and `level`, the integer that
// stands for 1. Every n is a multiple of PANEL.
template <class Weight, class Input, class Sum>
struct Arithmetic {
    void (*product)(const Product<Weight, Input, Sum>&);
    // does independent multiply-adds in registers and returns how many: timed, the most that this set can do
    double (*multiply_adds)(int rounds);
    // x [n] = row [n], and once more as the next product's input
    void (*embed)(const float* row, int n, float level, float* x, Input* out);
    // z [n] = tanh(a) sigmoid(b) of the sums [a | b], y [2n], with scale [2n] and a bias [2n] that lies between two:
    // `along` of the way
    void (*gate)(const Sum* y, const float* scale, const float* from, const float* to, float along, int n, float level,
                 Input* z);
    // x [n] += y + bias, and once more as the next product's input
    void (*residual)(const Sum* y, const float* scale, const float* bias, int n, float level, float* x, Input* out);
    // out [n] = max(0, y + bias); returns what one of out's integers stands for, the largest of them being `levels`.
    // `step` is that of the sums.
    float (*relu)(const Sum* y, const float* scale, float step, const float* bias, int n, float levels, float* scratch,
                  Input* out);
    // logits [n] = y + bias
    void (*output)(const Sum* y, const float* scale, float step, const float* bias, int n, float* logits);
};

struct Kernels {
    const char* name;
    Arithmetic<float, float, float> f32;
    Arithmetic<std::int8_t, std::int16_t, std::int32_t> i8;
    // weights [n] = exp((logits - the largest of them) * sharpness), below 1e-38 zero; any n
    void (*exponentials)(const float* logits, int n, float sharpness, float* weights);
};

// The instruction sets of this machine, best first; the last is "portable".
// Forced by the environment variable WAVENET_KERNELS; throws std::invalid_argument for one that is not here.
const Kernels& chosen_kernels();
const Kernels& kernels_by_name(const char* name);
// Fills `names` with at most `room` names and returns how many there are.
int available_kernels(const char** names, int room);

}  // namespace wavenet
