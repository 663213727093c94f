// The residual layers of training in float32, forward and backward, for one instruction set. Every matrix is row-major; a
// row is one sample, and its channels are multiples of PANEL. wavenet/nn/fused.py states the equations, and how the rows
// of several streams are arranged so that a dilation is a number of rows.
//
// Rows are computed in blocks that stay in the second-level cache from the convolution to the residual sum. Every sum
// adds its terms in an order that depends on the number of rows alone, on every instruction set.
#pragma once

#include <cstddef>

namespace wavenet {

constexpr int PANEL = 16;

struct Layer {
    std::size_t rows;          // N
    std::size_t shift;         // rows from one tap of the convolution to the next
    int taps;                  // K
    int residual, gate, skip;  // channels R, G, S
};

struct LayerForward {
    const float* x;        // [N, R]
    const float* dilated;  // [K, R, 2G]: transposed
    const float* bias;     // [2G], or with `bias_per_row`, [N, 2G]
    bool bias_per_row;
    const float* projection;       // [G, R]: the residual projection, transposed; or null, then there are no next rows
    const float* projection_bias;  // [R]
    float* sigmoid;                // [N, G]: sigmoid(b)
    float* z;                      // [N, G], z_stride from row to row: tanh(a) sigmoid(b)
    std::size_t z_stride;
    float* next;  // [N, R]
};

// Gradients of weights are added to what is in the memory; the others are overwritten.
struct LayerBackward {
    const float* x;        // [N, R]
    const float* sigmoid;  // [N, G]
    const float* z;        // [N, G], z_stride from row to row
    std::size_t z_stride;
    const float* dilated;         // [K, 2G, R]
    const float* projection;      // [R, G], or null
    const float* skip;            // [S, G]: the layer's columns of the skip projection
    const float* grad_skip;       // [N, S]
    float* grad_rows;             // [N, R]: in, the gradient of the next rows; out, that of x
    float* grad_gates;            // [N, 2G]: that of a and b
    float* grad_dilated;          // [K, 2G, R]
    float* grad_bias;             // [2G]
    float* grad_projection;       // [R, G], or null
    float* grad_projection_bias;  // [R]
};

// y = f(x) w + bias, with f the identity or ReLU.
struct Linear {
    std::size_t rows;
    int inputs, outputs;
    bool relu;
    const float* x;  // [N, inputs]
};

struct TrainingKernels {
    const char* name;
    void (*layer_forward)(const Layer&, const LayerForward&);
    void (*layer_backward)(const Layer&, const LayerBackward&);
    // weight [inputs, outputs], bias [outputs], y [N, outputs]
    void (*linear_forward)(const Linear&, const float* weight, const float* bias, float* y);
    // grad [N, outputs], weight [outputs, inputs]; grad_x [N, inputs] or null; grad_weight [outputs, inputs] and grad_bias
    // [outputs], to which is added
    void (*linear_backward)(const Linear&, const float* grad, const float* weight, float* grad_x, float* grad_weight,
                            float* grad_bias);
};

}  // namespace wavenet
