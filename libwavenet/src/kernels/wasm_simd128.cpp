// WebAssembly's 128-bit vectors: a panel is four vectors of four rows. There is no fused multiply-add, see kernels.h.
#include <wasm_simd128.h>

#include "table.h"

namespace wavenet {
namespace {

constexpr int VECTORS = 4;

struct Panel {
    v128_t part[VECTORS];
};
Panel zero_panel() {
    const v128_t zero = wasm_i32x4_const_splat(0);
    return {{zero, zero, zero, zero}};
}
Panel load_panel(const void* y) {
    const v128_t* const from = static_cast<const v128_t*>(y);
    return {{wasm_v128_load(from), wasm_v128_load(from + 1), wasm_v128_load(from + 2), wasm_v128_load(from + 3)}};
}
void store_panel(const Panel& p, void* y) {
    for (int i = 0; i < VECTORS; ++i) wasm_v128_store(static_cast<v128_t*>(y) + i, p.part[i]);
}

struct F32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    using Panel = wavenet::Panel;
    static constexpr int STEP = 1, PEAK_WEIGHTS = 1, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 2 : 1; }
    static Panel zero() { return zero_panel(); }
    static Panel load(const float* y) { return load_panel(y); }
    static void store(const Panel& p, float* y) { store_panel(p, y); }
    static Panel weights(const float* w) { return load_panel(w); }
    static v128_t broadcast(const float* x) { return wasm_v128_load32_splat(x); }
    static void add(Panel& sums, const Panel& w, v128_t x) {
        for (int i = 0; i < VECTORS; ++i) sums.part[i] = wasm_f32x4_add(sums.part[i], wasm_f32x4_mul(w.part[i], x));
    }
};

struct I8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    using Panel = wavenet::Panel;
    static constexpr int STEP = 2, PEAK_WEIGHTS = 1, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 2 : 1; }
    static Panel zero() { return zero_panel(); }
    static Panel load(const std::int32_t* y) { return load_panel(y); }
    static void store(const Panel& p, std::int32_t* y) { store_panel(p, y); }
    static Panel weights(const std::int8_t* w) {  // each vector: 4 rows x 2 inputs
        return {
            {wasm_i16x8_load8x8(w), wasm_i16x8_load8x8(w + 8), wasm_i16x8_load8x8(w + 16), wasm_i16x8_load8x8(w + 24)}};
    }
    static v128_t broadcast(const std::int16_t* x) { return wasm_v128_load32_splat(x); }  // the pair, for each row
    static void add(Panel& sums, const Panel& w, v128_t x) {
        for (int i = 0; i < VECTORS; ++i)
            sums.part[i] = wasm_i32x4_add(sums.part[i], wasm_i32x4_dot_i16x8(w.part[i], x));
    }
};

}  // namespace

extern const Kernels wasm_kernels;
const Kernels wasm_kernels = make_kernels<F32, I8>("wasm-simd128");

}  // namespace wavenet
