// The network's weights in the layout of a step: padded, in tiles (see kernels.h), one matrix after another in the order
// of use, so that a step reads memory from start to end.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "aligned_vector.h"
#include "config.h"
#include "kernels/kernels.h"

namespace wavenet {

// The two precisions. Int8: int8 weights with one scale per output row, int16 activations, int32 sums. The resolution of
// the activations inside the layers is fixed, from bounds that no input can exceed: |z| < 1, so that from one layer to
// the next |x| grows by at most the row sum of |Q| plus |q|. In the head it depends on the largest value of each sample.
// It is chosen so that no int32 sum can overflow for any input.
struct Float32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    static constexpr bool QUANTISED = false;
    static constexpr const char* NAME = "f32";
    static const Arithmetic<float, float, float>& arithmetic(const Kernels& kernels) { return kernels.f32; }
};
struct Int8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    static constexpr bool QUANTISED = true;
    static constexpr const char* NAME = "int8";
    static const Arithmetic<std::int8_t, std::int16_t, std::int32_t>& arithmetic(const Kernels& kernels) {
        return kernels.i8;
    }
};

// The values of a tensor of WaveNet.state_dict(), in its order.
using Tensors = std::function<const float*(const std::string& name)>;

// Position of a matrix in `Weights::store`.
struct Matrix {
    std::size_t offset = 0;
    int rows = 0, inputs = 0;  // padded
    int tiles() const { return (rows + TILE - 1) / TILE; }
};

template <class P>
struct LayerWeights {
    Matrix past;                                         // [a | b] from the K - 1 past inputs, oldest first
    Matrix current;                                      // [a | b] from the current input
    Matrix residual;                                     // x from z; no rows in the last layer
    AlignedVector<float> gate_scale;                     // [2G]
    AlignedVector<float> residual_scale, residual_bias;  // [R]
    float resolution = 1;                                // int8: integer steps per 1.0 in this layer's input
};

template <class P>
struct Weights {
    using Weight = typename P::Weight;

    // Fails for weights that are not finite, or so large that a step could overflow.
    Weights(const Config& config, const Tensors& tensors);

    const Weight* at(const Matrix& matrix) const { return store.data() + matrix.offset; }

    Config config;
    AlignedVector<Weight> store;
    AlignedVector<float> embedding;  // [input channels, R]
    std::vector<LayerWeights<P>> layers;
    AlignedVector<float> gate_bias;  // [L, 2G]; of an unconditioned network
    Matrix skip, hidden, output;
    AlignedVector<float> skip_scale, skip_bias;      // [S]
    AlignedVector<float> hidden_scale, hidden_bias;  // [H]
    AlignedVector<float> output_scale, output_bias;  // [A]
    float gate_resolution = 1;                       // int8: integer steps per 1.0 in z
    float max_skip_input = 1, max_hidden_input = 1;  // int8: the largest integers in the head's two inputs
};

extern template struct Weights<Float32>;
extern template struct Weights<Int8>;

}  // namespace wavenet
