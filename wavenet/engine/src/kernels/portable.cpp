// Plain C++, for every machine, and the yardstick of the others in the tests.
#include "table.h"

namespace wavenet {
namespace {

template <class Number>
struct Panel16 {
    Number row[PANEL];
};

struct F32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    using Panel = Panel16<float>;
    static constexpr int STEP = 1;
    static Panel zero() { return {}; }
    static Panel load(const float* y) {
        Panel p;
        for (int r = 0; r < PANEL; ++r) p.row[r] = y[r];
        return p;
    }
    static void store(const Panel& p, float* y) {
        for (int r = 0; r < PANEL; ++r) y[r] = p.row[r];
    }
    static const float* weights(const float* w) { return w; }
    static float broadcast(const float* x) { return *x; }
    static void add(Panel& sums, const float* w, float x) {
        for (int r = 0; r < PANEL; ++r) sums.row[r] += w[r] * x;
    }
};

struct I8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    using Panel = Panel16<std::int32_t>;
    static constexpr int STEP = 2;
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
    static Pair broadcast(const std::int16_t* x) { return {x[0], x[1]}; }
    static void add(Panel& sums, const std::int8_t* w, Pair x) {
        for (int r = 0; r < PANEL; ++r) sums.row[r] += w[2 * r] * x.first + w[2 * r + 1] * x.second;
    }
};

}  // namespace

extern const Kernels portable_kernels;
const Kernels portable_kernels = kernels_of<F32, I8>("portable");

}  // namespace wavenet
