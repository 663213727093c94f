// The elementwise functions, as plain loops that a compiler vectorises. Included by each kernel file, and so compiled once
// for each instruction set, under the assumption that no value is NaN or infinite: `Weights` and `ConditioningFrames`
// have verified that.
#pragma once

#include <cstring>

#include "kernels.h"

namespace wavenet {
namespace {

// a b + c. Among float32 sums it is rounded once where the processor can do that; among int8 sums it is rounded twice on
// every processor, so that all of them compute the same bits.
template <class Sum>
inline float multiply_add(float a, float b, float c) {
    return a * b + c;
}
#if defined(__GNUC__) && (defined(__FMA__) || defined(__aarch64__))
template <>
inline float multiply_add<float>(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
#endif

template <class To, class From>
inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// A float plus 1.5 * 2^23 has no bits for a fraction: its last bits are then the nearest integer.
constexpr float NEAREST = 12582912.0f;
constexpr float LOG2_E = 1.44269504f;

// 2^x for |x| <= 126. x = n + f, |f| <= 1/2; 2^f is a minimax polynomial, and n is added to the exponent.
struct PowerOfTwo {
    float shifted, f;
    explicit PowerOfTwo(float x) : shifted(x + NEAREST), f(x - (shifted - NEAREST)) {}
    float times(float p) const { return bits<float>(bits<std::uint32_t>(p) + (bits<std::uint32_t>(shifted) << 23)); }
};

template <class Sum>  // relative error 2e-9, before rounding
inline float exp2_polynomial(float x) {
    const PowerOfTwo power(x);
    const float f = power.f;
    float p = 0.000153458095f;
    p = multiply_add<Sum>(p, f, 0.00133999309f);
    p = multiply_add<Sum>(p, f, 0.00961848907f);
    p = multiply_add<Sum>(p, f, 0.0555032864f);
    p = multiply_add<Sum>(p, f, 0.240226462f);
    p = multiply_add<Sum>(p, f, 0.693147182f);
    p = multiply_add<Sum>(p, f, 1.0f);
    return power.times(p);
}

// For gates. Those of int8 sums become integers of 15 bits, for which a relative error of 3e-6 is little.
template <class Sum>
inline float exp2_of_gate(float x) {
    return exp2_polynomial<Sum>(x);
}
template <>
inline float exp2_of_gate<std::int32_t>(float x) {
    const PowerOfTwo power(x);
    const float f = power.f, square = f * f;
    const float low = 0.693124175f * f + 1.0f, high = 0.0559064262f * f + 0.240240991f;
    return power.times((0.00958285294f * square + high) * square + low);
}

inline float between(float low, float x, float high) {
    const float above = x < low ? low : x;
    return above > high ? high : above;
}

// A sum of products in float32, plus its bias.
inline float biased_sum(float y, const float*, float bias, int) { return y + bias; }
inline float biased_sum(std::int32_t y, const float* scale, float bias, int i) {
    return multiply_add<std::int32_t>(float(y), scale[i], bias);
}
inline float biased_sum(float y, const float*, float, const float* bias, int i) { return y + bias[i]; }
inline float biased_sum(std::int32_t y, const float* scale, float sum_scale, const float* bias, int i) {
    return multiply_add<std::int32_t>(float(y), scale[i] * sum_scale, bias[i]);
}

inline void put(float value, float, float& out) { out = value; }
inline void put(float value, float resolution, std::int16_t& out) {
    out = std::int16_t(bits<std::uint32_t>(value * resolution + NEAREST));
}

template <class Input>
void embed(const float* __restrict row, int n, float resolution, float* __restrict x, Input* __restrict out) {
    for (int i = 0; i < n; ++i) {
        x[i] = row[i];
        put(row[i], resolution, out[i]);
    }
}

// With u = e^-2a and v = e^-b: tanh(a) sigmoid(b) = (1 - u) / ((1 + u) (1 + v)). The limits keep the product of the
// two finite; beyond them tanh is 1 to the last bit and sigmoid below 1e-24.
template <class Sum, class Input>
void gate(const Sum* __restrict y, const float* __restrict scale, const float* __restrict from,
          const float* __restrict to, float fraction, int n, float resolution, Input* __restrict z) {
    for (int i = 0; i < n; ++i) {
        const float a = biased_sum(y[i], scale, multiply_add<Sum>(fraction, to[i] - from[i], from[i]), i);
        const float b =
            biased_sum(y[n + i], scale, multiply_add<Sum>(fraction, to[n + i] - from[n + i], from[n + i]), n + i);
        const float u = exp2_of_gate<Sum>(between(-40.0f, a * (-2 * LOG2_E), 40.0f));
        const float v = exp2_of_gate<Sum>(between(-80.0f, b * -LOG2_E, 80.0f));
        put((1.0f - u) / ((1.0f + u) * (1.0f + v)), resolution, z[i]);
    }
}

template <class Sum, class Input>
void residual(const Sum* __restrict y, const float* __restrict scale, const float* __restrict bias, int n,
              float resolution, float* __restrict x, Input* __restrict out) {
    for (int i = 0; i < n; ++i) {
        const float next = x[i] + biased_sum(y[i], scale, bias[i], i);
        x[i] = next;
        put(next, resolution, out[i]);
    }
}

// out [n] = x [n] for the next product, quantised so that the largest value `most` becomes the integer `largest`. Returns
// the size of one integer step.
inline float quantised(const float* x, int n, float, float, float* out) {
    std::memcpy(out, x, n * sizeof(float));
    return 1.0f;
}
inline float quantised(const float* __restrict x, int n, float most, float largest, std::int16_t* __restrict out) {
    const float resolution = most > 0 ? largest / most : 0.0f;
    for (int i = 0; i < n; ++i) put(x[i], resolution, out[i]);
    return most > 0 ? most / largest : 0.0f;
}

template <class Sum, class Input>
float relu(const Sum* __restrict y, const float* __restrict scale, float sum_scale, const float* __restrict bias, int n,
           float largest, float* __restrict scratch, Input* __restrict out) {
    float most[PANEL] = {};
    for (int i = 0; i < n; i += PANEL)
        for (int j = 0; j < PANEL; ++j) {
            const float value = biased_sum(y[i + j], scale, sum_scale, bias, i + j);
            const float positive = value > 0.0f ? value : 0.0f;
            scratch[i + j] = positive;
            most[j] = positive > most[j] ? positive : most[j];
        }
    float top = 0;
    for (int j = 0; j < PANEL; ++j) top = most[j] > top ? most[j] : top;
    return quantised(scratch, n, top, largest, out);
}

template <class Sum>
void output(const Sum* __restrict y, const float* __restrict scale, float sum_scale, const float* __restrict bias,
            int n, float* __restrict values) {
    for (int i = 0; i < n; ++i) values[i] = biased_sum(y[i], scale, sum_scale, bias, i);
}

// The same bits on every processor, in both precisions.
void exponentials(const float* __restrict logits, int n, float inverse_temperature, float* __restrict weights) {
    float most[PANEL], best = logits[0];
    for (int j = 0; j < PANEL; ++j) most[j] = best;
    int i = 0;
    for (; i + PANEL <= n; i += PANEL)
        for (int j = 0; j < PANEL; ++j) most[j] = logits[i + j] > most[j] ? logits[i + j] : most[j];
    for (; i < n; ++i) best = logits[i] > best ? logits[i] : best;
    for (int j = 0; j < PANEL; ++j) best = most[j] > best ? most[j] : best;
    for (int j = 0; j < n; ++j) {
        const float x = (logits[j] - best) * inverse_temperature * LOG2_E;
        const float weight = exp2_polynomial<std::int32_t>(x > -126.0f ? x : -126.0f);
        weights[j] = x > -126.0f ? weight : 0.0f;
    }
}

}  // namespace
}  // namespace wavenet
