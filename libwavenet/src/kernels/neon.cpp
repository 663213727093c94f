// NEON on 64-bit ARM: a panel is four vectors of four rows.
#include <arm_neon.h>

#include "table.h"

namespace wavenet {
namespace {

struct F32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    using Panel = float32x4x4_t;
    static constexpr int STEP = 1, PEAK_WEIGHTS = 2, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 4 : streams == 2 ? 2 : 1; }
    static Panel zero() { return {{vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)}}; }
    static Panel load(const float* y) {
        return {{vld1q_f32(y), vld1q_f32(y + 4), vld1q_f32(y + 8), vld1q_f32(y + 12)}};
    }
    static void store(const Panel& p, float* y) {
        for (int i = 0; i < 4; ++i) vst1q_f32(y + 4 * i, p.val[i]);
    }
    static Panel weights(const float* w) { return load(w); }
    static float32x4_t broadcast(const float* x) { return vdupq_n_f32(*x); }
    static void add(Panel& sums, const Panel& w, float32x4_t x) {
        for (int i = 0; i < 4; ++i) sums.val[i] = vfmaq_f32(sums.val[i], w.val[i], x);
    }
};

struct I8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    using Panel = int32x4x4_t;
    static constexpr int STEP = 2, PEAK_WEIGHTS = 2, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 2 : 1; }
    struct Weights {  // 16 rows of the pair's first input, and of its second
        int16x8_t first[2], second[2];
    };
    struct Pair {
        std::int16_t first, second;
    };
    static Panel zero() { return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}}; }
    static Panel load(const std::int32_t* y) {
        return {{vld1q_s32(y), vld1q_s32(y + 4), vld1q_s32(y + 8), vld1q_s32(y + 12)}};
    }
    static void store(const Panel& p, std::int32_t* y) {
        for (int i = 0; i < 4; ++i) vst1q_s32(y + 4 * i, p.val[i]);
    }
    static Weights weights(const std::int8_t* w) {
        const int8x16x2_t separate = vld2q_s8(w);  // separates the pairs
        return {{vmovl_s8(vget_low_s8(separate.val[0])), vmovl_s8(vget_high_s8(separate.val[0]))},
                {vmovl_s8(vget_low_s8(separate.val[1])), vmovl_s8(vget_high_s8(separate.val[1]))}};
    }
    static Pair broadcast(const std::int16_t* x) { return {x[0], x[1]}; }
    static void add(Panel& sums, const Weights& w, Pair x) {
        for (int half = 0; half < 2; ++half) {
            int32x4_t low = sums.val[2 * half], high = sums.val[2 * half + 1];
            low = vmlal_n_s16(low, vget_low_s16(w.first[half]), x.first);
            low = vmlal_n_s16(low, vget_low_s16(w.second[half]), x.second);
            high = vmlal_n_s16(high, vget_high_s16(w.first[half]), x.first);
            high = vmlal_n_s16(high, vget_high_s16(w.second[half]), x.second);
            sums.val[2 * half] = low;
            sums.val[2 * half + 1] = high;
        }
    }
};

}  // namespace

extern const Kernels neon_kernels;
const Kernels neon_kernels = make_kernels<F32, I8>("neon");

}  // namespace wavenet
