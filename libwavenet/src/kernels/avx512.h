// AVX-512: a panel is one vector of sixteen rows. Compiled twice: with VNNI, multiplying pairs and adding them to the sum
// is one instruction; without VNNI it is two.
#include <immintrin.h>

#include "table.h"

namespace wavenet {
namespace {

struct F32 {
    using Weight = float;
    using Input = float;
    using Sum = float;
    using Panel = __m512;
    static constexpr int STEP = 1, PEAK_WEIGHTS = 4, PEAK_INPUTS = 4;
    static constexpr int panels(int streams) { return streams == 1 ? 4 : 2; }
    static Panel zero() { return _mm512_setzero_ps(); }
    static Panel load(const float* y) { return _mm512_loadu_ps(y); }
    static void store(const Panel& p, float* y) { _mm512_storeu_ps(y, p); }
    static Panel weights(const float* w) { return load(w); }
    static __m512 broadcast(const float* x) { return _mm512_set1_ps(*x); }
    static void add(Panel& sums, const Panel& w, __m512 x) { sums = _mm512_fmadd_ps(w, x, sums); }
};

struct I8 {
    using Weight = std::int8_t;
    using Input = std::int16_t;
    using Sum = std::int32_t;
    using Panel = __m512i;
    static constexpr int STEP = 2, PEAK_WEIGHTS = 4, PEAK_INPUTS = 4;
    static constexpr int panels(int streams) { return streams == 1 ? 4 : 2; }
    static Panel zero() { return _mm512_setzero_si512(); }
    static Panel load(const std::int32_t* y) { return _mm512_loadu_si512(y); }
    static void store(const Panel& p, std::int32_t* y) { _mm512_storeu_si512(y, p); }
    static __m512i weights(const std::int8_t* w) {  // 16 rows x 2 inputs
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
    }
    static __m512i broadcast(const std::int16_t* x) {  // the pair of inputs, once for each row
        std::int32_t pair;
        std::memcpy(&pair, x, sizeof pair);
        return _mm512_set1_epi32(pair);
    }
    static void add(Panel& sums, const __m512i& w, __m512i x) {
#ifdef __AVX512VNNI__
        sums = _mm512_dpwssd_epi32(sums, w, x);
#else
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(w, x));
#endif
    }
};

}  // namespace
}  // namespace wavenet
