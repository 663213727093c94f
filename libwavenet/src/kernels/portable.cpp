// Plain C++ for every machine, and the reference for the others in the tests.
#ifdef __GNUC__
#define WAVENET_INLINE __attribute__((noinline))  // GCC vectorises these loops one by one; in a larger function, fewer
#endif
#include "table.h"

namespace wavenet {
namespace {

struct F32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
#ifdef __GNUC__
    typedef float Vector __attribute__((vector_size(16)));  // whatever the machine has for it
#else
    using Vector = float;
#endif
    static constexpr int WIDTH = sizeof(Vector) / sizeof(float), VECTORS = PANEL / WIDTH;
    struct Panel {
        Vector part[VECTORS];
    };
    static constexpr int STEP = 1, PEAK_WEIGHTS = 1, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 2 : 1; }
    static Panel zero() { return {}; }
    static Panel load(const float* y) {
        Panel p;
        for (int i = 0; i < VECTORS; ++i) std::memcpy(&p.part[i], y + i * WIDTH, sizeof(Vector));
        return p;
    }
    static void store(const Panel& p, float* y) {
        for (int i = 0; i < VECTORS; ++i) std::memcpy(y + i * WIDTH, &p.part[i], sizeof(Vector));
    }
    static Panel weights(const float* w) { return load(w); }
    static float broadcast(const float* x) { return *x; }
    static void add(Panel& sums, const Panel& w, float x) {
        for (int i = 0; i < VECTORS; ++i) sums.part[i] += w.part[i] * x;
    }
};

struct I8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    struct Panel {
        std::int32_t row[PANEL];
    };
    static constexpr int STEP = 2, PEAK_WEIGHTS = 1, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 2 : 1; }
    struct Pair {
        std::int32_t first, second;
    };
    static Panel zero() { return {}; }
    static Panel load(const std::int32_t* y) {
        Panel p;
        for (int r = 0; r < PANEL; ++r) p.row[r] = y[r];
        return p;
    }
    static void store(const Panel& p, std::int32_t* y) {
        for (int r = 0; r < PANEL; ++r) y[r] = p.row[r];
    }
    static const std::int8_t* weights(const std::int8_t* w) { return w; }
    // Not x[0] and x[1]: GCC 12 would then load the inputs of several streams that do not exist, without using them.
    static Pair broadcast(const std::int16_t* x) {
        std::int16_t pair[2];
        std::memcpy(pair, x, sizeof(pair));
        return {pair[0], pair[1]};
    }
    static void add(Panel& sums, const std::int8_t* w, Pair x) {
        for (int r = 0; r < PANEL; ++r) sums.row[r] += w[2 * r] * x.first + w[2 * r + 1] * x.second;
    }
};

}  // namespace

extern const Kernels portable_kernels;
const Kernels portable_kernels = make_kernels<F32, I8>("portable");

}  // namespace wavenet
