// The network's weights as a step reads them: padded, in tiles (see kernels.h), one behind the other in the order of
// use, so that a step reads memory straight through.
#pragma once

#include <cstdint>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "config.h"
#include "kernels/kernels.h"

namespace wavenet {

// Two ways to hold a network. Int8: int8 weights with one scale for each output row, int16 activations, int32 sums.
// The scales of the activations inside the layers are fixed, from bounds that no input can exceed: |z| < 1, and so
// |x| grows by at most the sum of |Q| and |q| from one layer to the next. In the head they follow the largest value.
// They leave room for the sums: no sum of int32 can overflow, whatever the input.
struct Float32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    static const Arithmetic<float, float, float>& arithmetic(const Kernels& kernels) { return kernels.f32; }
    static constexpr const char* NAME = "f32";
};
struct Int8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    static const Arithmetic<std::int8_t, std::int16_t, std::int32_t>& arithmetic(const Kernels& kernels) {
        return kernels.i8;
    }
    static constexpr const char* NAME = "int8";
};

// Vectors read by vector instructions begin at a cache line.
constexpr std::size_t CACHE_LINE = 64;
template <class T>
struct LineAllocator {
    using value_type = T;
    LineAllocator() = default;
    template <class U>
    LineAllocator(const LineAllocator<U>&) {}
    T* allocate(std::size_t n) {
        return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(CACHE_LINE)));
    }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(CACHE_LINE)); }
    template <class U>
    bool operator==(const LineAllocator<U>&) const { return true; }
    template <class U>
    bool operator!=(const LineAllocator<U>&) const { return false; }
};
template <class T>
using Line = std::vector<T, LineAllocator<T>>;

// Where a matrix lies in `Weights::store`, and what turns its sums into numbers.
struct Matrix {
    std::size_t offset = 0;
    int rows = 0, inputs = 0;  // padded
    int tiles() const { return (rows + TILE - 1) / TILE; }
};

template <class P>
struct LayerWeights {
    Matrix past;      // [a | b] from the K - 1 past inputs, oldest first
    Matrix now;       // [a | b] from the current input
    Matrix residual;  // x from z; no rows in the last layer
    Line<float> gate_scale;                     // [2G]
    Line<float> residual_scale, residual_bias;  // [R]
    float level = 1;  // int8: the integer that stands for 1 in this layer's input
};

template <class P>
struct Weights {
    using Weight = typename P::Weight;

    // `tensor(name)`: the numbers of a tensor of WaveNet.state_dict(), in its order.
    // Throws std::invalid_argument for weights that are not finite, or too large to be bounded.
    Weights(const Config& config, const std::function<const float*(const std::string&)>& tensor);

    Config config;
    Line<Weight> store;
    Line<float> embedding;  // [rows, R]
    std::vector<LayerWeights<P>> layers;
    Line<float> gate_bias;  // [L, 2G]; what a conditioned network is told takes its place
    Matrix skip, hidden, output;
    Line<float> skip_scale, skip_bias;      // [S]
    Line<float> hidden_scale, hidden_bias;  // [H]
    Line<float> output_scale, output_bias;  // [A]
    float gate_level = 1;                   // int8: the integer that stands for 1 in z
    float skip_levels = 1, hidden_levels = 1;  // int8: the largest integers in the head's two inputs

    const Weight* at(const Matrix& matrix) const { return store.data() + matrix.offset; }
};

extern template struct Weights<Float32>;
extern template struct Weights<Int8>;

}  // namespace wavenet
