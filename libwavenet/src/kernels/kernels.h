// The interface of an instruction set: two tables of the same functions, for float32 and for int8 weights.
//
// A vector of channels is padded with zeros to whole panels of 16. A matrix is cut into tiles of 32 output rows, and
// stored tile by tile: for each input (int8: for each pair of inputs) the weights of all rows of the tile are adjacent,
// so that a product broadcasts an input, multiplies and adds, without horizontal sums:
//
//     float32   w[tile][input][row]             y[row] += w * x[input]
//     int8      w[tile][pair][row][2]           y[row] += w0 * x[2 pair] + w1 * x[2 pair + 1]
//
// Every sum adds the inputs in order, independent of how the work is split. So sums are the same to the last bit for all
// numbers of streams, threads and calls. In int8 everything is the same to the last bit on all instruction sets: sums
// are integers, and nothing else is fused. In float32 the vector kernels of processors use fused multiply-adds and agree
// with each other to the last bit. Old x86 processors and WebAssembly have none, and emulating them in the gates alone
// would take as long as the products: the results of those kernels differ in the last bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wavenet {

constexpr int PANEL = 16;              // rows; widths are padded to multiples of it
constexpr int TILE = 32;               // rows of a tile; the last tile of a matrix may have PANEL rows only
constexpr int MAX_ACTIVATION = 32766;  // int16, less one step for rounding

constexpr int padded(int width) { return (width + PANEL - 1) / PANEL * PANEL; }

// y += W x for some rows, some inputs and one or more streams.
template <class Weight, class Input, class Sum>
struct Product {
    const Weight* weights;    // first tile of the rows
    std::size_t tile_stride;  // weights in a tile: TILE times all inputs of the matrix
    int first;                // index of the first input that is used; even
    int inputs;               // number of inputs that are used: a multiple of PANEL
    int rows;                 // a multiple of PANEL
    const Input* x;           // [streams][inputs]
    std::size_t x_stride;
    Sum* y;  // [streams][rows]
    std::size_t y_stride;
    int streams;
    bool fresh;  // y = W x instead of y += W x
};

// Elementwise functions. `scale` [n] turns integer sums into values; float32 ignores it. `resolution`: integer steps per
// 1.0 in an int16 output; float32 ignores it. Every n is a multiple of PANEL.
template <class Weight, class Input, class Sum>
struct Arithmetic {
    void (*product)(const Product<Weight, Input, Sum>&);
    // Computes independent multiply-adds on registers and returns their number, to measure the peak.
    double (*multiply_adds)(int rounds);
    // x [n] = row [n], and the same as input of the next product
    void (*embed)(const float* row, int n, float resolution, float* x, Input* out);
    // z [n] = tanh(a) sigmoid(b) of the sums y [2n], [a | b], with scale [2n] and a bias [2n] that is interpolated:
    // `from` at fraction 0, `to` at fraction 1
    void (*gate)(const Sum* y, const float* scale, const float* from, const float* to, float fraction, int n,
                 float resolution, Input* z);
    // x [n] += y + bias, and the same as input of the next product
    void (*residual)(const Sum* y, const float* scale, const float* bias, int n, float resolution, float* x,
                     Input* out);
    // out [n] = max(0, y + bias), in int8 with the resolution at which its largest value is `largest`. Returns the size
    // of one integer step of out; `sum_scale` is that of the product's input.
    float (*relu)(const Sum* y, const float* scale, float sum_scale, const float* bias, int n, float largest,
                  float* scratch, Input* out);
    // values [n] = y + bias
    void (*output)(const Sum* y, const float* scale, float sum_scale, const float* bias, int n, float* values);
};

// y += W x for one or more frames, see frame_product.h. The weights are in tiles as above: [tile][input][row].
struct FrameProduct {
    const float* weights;
    int rows;  // a multiple of TILE
    int inputs;
    const float* x;  // [frames][inputs]
    std::size_t x_stride;
    float* y;  // [frames][rows]
    std::size_t y_stride;
    int frames;
};

struct Kernels {
    const char* name;
    Arithmetic<float, float, float> f32;
    Arithmetic<std::int8_t, std::int16_t, std::int32_t> i8;
    // weights [n] = exp((logits - the largest logit) * inverse_temperature), zero below 1e-38; any n. The same bits on all
    // instruction sets.
    void (*exponentials)(const float* logits, int n, float inverse_temperature, float* weights);
    void (*frame_product)(const FrameProduct&);  // the same results for all instruction sets
};

// The best instruction set of this machine, or that in the environment variable WAVENET_KERNELS. Throws
// std::invalid_argument if this machine does not have it.
const Kernels& chosen_kernels();
const Kernels& kernels_by_name(const char* name);
// Writes at most `room` names of this machine's instruction sets to `names`, fastest first, and returns their number. The
// last one is "portable".
int available_kernels(const char** names, int room);

}  // namespace wavenet
