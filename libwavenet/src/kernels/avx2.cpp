// AVX2 with FMA: x86 processors since about 2013. A panel is two vectors of eight rows.
#include <immintrin.h>

#include "table.h"

namespace wavenet {
namespace {

struct F32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    struct Panel {
        __m256 low, high;
    };
    static constexpr int STEP = 1, PEAK_WEIGHTS = 2, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 4 : streams < 4 ? 2 : 1; }
    static Panel zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static Panel load(const float* y) { return {_mm256_loadu_ps(y), _mm256_loadu_ps(y + 8)}; }
    static void store(const Panel& p, float* y) {
        _mm256_storeu_ps(y, p.low);
        _mm256_storeu_ps(y + 8, p.high);
    }
    static Panel weights(const float* w) { return load(w); }
    static __m256 broadcast(const float* x) { return _mm256_broadcast_ss(x); }
    static void add(Panel& sums, const Panel& w, __m256 x) {
        sums.low = _mm256_fmadd_ps(w.low, x, sums.low);
        sums.high = _mm256_fmadd_ps(w.high, x, sums.high);
    }
};

struct I8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    struct Panel {
        __m256i low, high;
    };
    static constexpr int STEP = 2, PEAK_WEIGHTS = 2, PEAK_INPUTS = 2;
    static constexpr int panels(int streams) { return streams == 1 ? 2 : 1; }
    static __m256i vector(const std::int32_t* y) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y)); }
    static Panel zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static Panel load(const std::int32_t* y) { return {vector(y), vector(y + 8)}; }
    static void store(const Panel& p, std::int32_t* y) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), p.low);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + 8), p.high);
    }
    static __m256i widened(const std::int8_t* w) {  // 8 rows x 2 inputs
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    }
    static Panel weights(const std::int8_t* w) { return {widened(w), widened(w + 16)}; }
    static __m256i broadcast(const std::int16_t* x) {  // the pair of inputs, once for each row
        std::int32_t pair;
        std::memcpy(&pair, x, sizeof pair);
        return _mm256_set1_epi32(pair);
    }
    static void add(Panel& sums, const Panel& w, __m256i x) {
        sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(w.low, x));
        sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(w.high, x));
    }
};

}  // namespace

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = make_kernels<F32, I8>("avx2");

}  // namespace wavenet
