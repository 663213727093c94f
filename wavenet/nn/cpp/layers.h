// The residual layer and the linear map, forward and backward, on blocks of rows. Included by the file of each instruction
// set after VECTOR is defined.
#pragma once

#include <algorithm>
#include <vector>

#include "product.h"

namespace wavenet {
namespace {

constexpr std::size_t BLOCK = 192;  // rows: what a layer reads and writes for them stays in the second-level cache

inline float power_of_two(float x) {  // |x| <= 126; relative error 2e-9 before rounding, see libwavenet's elementwise.h
    constexpr float NEAREST = 12582912.0f;
    const float shifted = x + NEAREST, f = x - (shifted - NEAREST);
    float p = 0.000153458095f;
    p = p * f + 0.00133999309f;
    p = p * f + 0.00961848907f;
    p = p * f + 0.0555032864f;
    p = p * f + 0.240226462f;
    p = p * f + 0.693147182f;
    p = p * f + 1.0f;
    unsigned bits, exponent;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    std::memcpy(&p, &bits, sizeof bits);
    return p;
}

constexpr float LOG2_E = 1.44269504f;

inline float limited(float x) {  // NaN stays NaN
    x = -80.0f > x ? -80.0f : x;
    return 80.0f < x ? 80.0f : x;
}

// z = tanh(a) sigmoid(b), and sigmoid(b)
inline void activate(const float* __restrict a, const float* __restrict b, float* __restrict sigmoid,
                     float* __restrict z, int n) {
    for (int i = 0; i < n; ++i) {
        const float u = power_of_two(limited(a[i] * (-2 * LOG2_E))), v = power_of_two(limited(b[i] * -LOG2_E));
        sigmoid[i] = 1.0f / (1.0f + v);
        z[i] = (1.0f - u) / (1.0f + u) * sigmoid[i];
    }
}

// From the gradient of z to those of a and b; tanh(a) = z / sigmoid(b), which is never zero.
inline void differentiate(const float* __restrict sigmoid, const float* __restrict z, const float* __restrict grad_z,
                          float* __restrict grad_a, float* __restrict grad_b, int n) {
    for (int i = 0; i < n; ++i) {
        const float s = sigmoid[i], t = z[i] / s;
        grad_a[i] = grad_z[i] * s * (1.0f - t * t);
        grad_b[i] = grad_z[i] * z[i] * (1.0f - s);
    }
}

inline void add(const float* __restrict from, float* __restrict to, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) to[i] += from[i];
}

inline void add_rows(const float* from, std::size_t rows, int columns, float* to) {
    for (std::size_t row = 0; row < rows; ++row) add(from + row * columns, to, columns);
}

void layer_forward(const Layer& layer, const LayerForward& f) {
    const std::size_t gate = layer.gate, gates = 2 * gate, residual = layer.residual;
    std::vector<float> scratch(BLOCK * gates);
    for (std::size_t first = 0; first < layer.rows; first += BLOCK) {
        const std::size_t last = std::min(layer.rows, first + BLOCK), rows = last - first;
        for (std::size_t row = 0; row < rows; ++row)
            std::memcpy(scratch.data() + row * gates, f.bias + (f.bias_per_row ? first + row : 0) * gates,
                        gates * sizeof(float));
        for (int tap = 0; tap < layer.taps; ++tap) {
            const std::size_t past = (layer.taps - 1 - tap) * layer.shift, from = std::max(first, past);
            if (from >= last) continue;
            product(last - from, int(gates), residual, {f.x + (from - past) * residual, residual, 1},
                    f.dilated + tap * residual * gates, gates, scratch.data() + (from - first) * gates, gates, true);
        }
        for (std::size_t row = 0; row < rows; ++row) {
            const float* const a = scratch.data() + row * gates;
            activate(a, a + gate, f.sigmoid + (first + row) * gate, f.z + (first + row) * f.z_stride, layer.gate);
        }
        if (!f.projection) continue;
        for (std::size_t row = first; row < last; ++row)
            for (std::size_t i = 0; i < residual; ++i)
                f.next[row * residual + i] = f.x[row * residual + i] + f.projection_bias[i];
        product(rows, layer.residual, gate, {f.z + first * f.z_stride, f.z_stride, 1}, f.projection, residual,
                f.next + first * residual, residual, true);
    }
}

// From the last rows to the first: the gradient of a row of x contains those of the gates of later rows.
void layer_backward(const Layer& layer, const LayerBackward& b) {
    const std::size_t gate = layer.gate, gates = 2 * gate, residual = layer.residual, skip = layer.skip;
    std::vector<float> grad_z(BLOCK * gate);
    for (std::size_t last = layer.rows; last > 0;) {
        const std::size_t first = (last - 1) / BLOCK * BLOCK, rows = last - first;
        float* const grad_rows = b.grad_rows + first * residual;
        const float* const z = b.z + first * b.z_stride;
        product(rows, layer.gate, skip, {b.grad_skip + first * skip, skip, 1}, b.skip, gate, grad_z.data(), gate,
                false);
        if (b.projection) {
            product(rows, layer.gate, residual, {grad_rows, residual, 1}, b.projection, gate, grad_z.data(), gate,
                    true);
            product(residual, layer.gate, rows, {grad_rows, 1, residual}, z, b.z_stride, b.grad_projection, gate, true);
            add_rows(grad_rows, rows, layer.residual, b.grad_projection_bias);
        }
        for (std::size_t row = 0; row < rows; ++row) {
            float* const grad = b.grad_gates + (first + row) * gates;
            differentiate(b.sigmoid + (first + row) * gate, z + row * b.z_stride, grad_z.data() + row * gate, grad,
                          grad + gate, layer.gate);
        }
        add_rows(b.grad_gates + first * gates, rows, int(gates), b.grad_bias);
        for (int tap = 0; tap < layer.taps; ++tap) {
            const std::size_t past = (layer.taps - 1 - tap) * layer.shift, from = std::max(first, past);
            if (from < last)
                product(gates, layer.residual, last - from, {b.grad_gates + from * gates, 1, gates},
                        b.x + (from - past) * residual, residual, b.grad_dilated + tap * gates * residual, residual,
                        true);
        }
        for (int tap = layer.taps - 1; tap >= 0; --tap) {
            const std::size_t past = (layer.taps - 1 - tap) * layer.shift;
            if (first + past >= layer.rows) continue;
            product(std::min(last, layer.rows - past) - first, layer.residual, gates,
                    {b.grad_gates + (first + past) * gates, gates, 1}, b.dilated + tap * gates * residual, residual,
                    grad_rows, residual, true);
        }
        last = first;
    }
}

inline void positive(const float* __restrict x, float* __restrict y, std::size_t n) {  // NaN stays NaN
    for (std::size_t i = 0; i < n; ++i) y[i] = 0.0f > x[i] ? 0.0f : x[i];
}

inline void where_positive(const float* __restrict x, float* __restrict grad, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) grad[i] = x[i] > 0.0f ? grad[i] : 0.0f;
}

// The block of f(x): x itself, or its positive part in `scratch`.
inline const float* inputs_of(const Linear& l, std::size_t first, std::size_t rows, std::vector<float>& scratch) {
    const float* const x = l.x + first * l.inputs;
    if (!l.relu) return x;
    scratch.resize(BLOCK * l.inputs);
    positive(x, scratch.data(), rows * l.inputs);
    return scratch.data();
}

void linear_forward(const Linear& l, const float* weight, const float* bias, float* y) {
    std::vector<float> scratch;
    const std::size_t inputs = l.inputs, outputs = l.outputs;
    for (std::size_t first = 0; first < l.rows; first += BLOCK) {
        const std::size_t rows = std::min(BLOCK, l.rows - first);
        const float* const x = inputs_of(l, first, rows, scratch);
        for (std::size_t row = first; row < first + rows; ++row)
            std::memcpy(y + row * outputs, bias, outputs * sizeof(float));
        product(rows, l.outputs, inputs, {x, inputs, 1}, weight, outputs, y + first * outputs, outputs, true);
    }
}

void linear_backward(const Linear& l, const float* grad, const float* weight, float* grad_x, float* grad_weight,
                     float* grad_bias) {
    std::vector<float> scratch;
    const std::size_t inputs = l.inputs, outputs = l.outputs;
    for (std::size_t first = 0; first < l.rows; first += BLOCK) {
        const std::size_t rows = std::min(BLOCK, l.rows - first);
        const float* const g = grad + first * outputs;
        add_rows(g, rows, l.outputs, grad_bias);
        product(outputs, l.inputs, rows, {g, 1, outputs}, inputs_of(l, first, rows, scratch), inputs, grad_weight,
                inputs, true);
        if (!grad_x) continue;
        product(rows, l.inputs, outputs, {g, outputs, 1}, weight, inputs, grad_x + first * inputs, inputs, false);
        if (l.relu) where_positive(l.x + first * inputs, grad_x + first * inputs, rows * inputs);
    }
}

constexpr TrainingKernels kernels(const char* name) {
    return {name, layer_forward, layer_backward, linear_forward, linear_backward};
}

}  // namespace
}  // namespace wavenet
