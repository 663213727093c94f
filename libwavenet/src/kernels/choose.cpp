#include <cstdlib>
#include <string>

#include "../failure.h"
#include "kernels.h"

namespace wavenet {

extern const Kernels portable_kernels, avx2_kernels, avx512_kernels, avx512vnni_kernels, neon_kernels, wasm_kernels;

namespace {

constexpr const char* FORCED_BY = "WAVENET_KERNELS";
constexpr int MOST_SETS = 4;

// Fills `sets` with what this machine can run, best first.
int available(const Kernels** sets) {
    int count = 0;
#if defined(WAVENET_X86) && defined(__GNUC__)
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) sets[count++] = &avx512vnni_kernels;
    if (avx512) sets[count++] = &avx512_kernels;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets[count++] = &avx2_kernels;
#endif
#ifdef WAVENET_NEON
    sets[count++] = &neon_kernels;
#endif
#ifdef __wasm_simd128__
    sets[count++] = &wasm_kernels;
#endif
    sets[count++] = &portable_kernels;
    return count;
}

}  // namespace

int available_kernels(const char** names, int room) {
    const Kernels* sets[MOST_SETS];
    const int count = available(sets);
    for (int i = 0; i < count && i < room; ++i) names[i] = sets[i]->name;
    return count;
}

const Kernels& kernels_by_name(const char* name) {
    const Kernels* sets[MOST_SETS];
    const int count = available(sets);
    std::string known;
    for (int i = 0; i < count; ++i) {
        if (std::string(sets[i]->name) == name) return *sets[i];
        known += std::string(i ? ", " : "") + sets[i]->name;
    }
    fail(std::string(FORCED_BY) + " = " + name + ": this machine has " + known);
}

const Kernels& chosen_kernels() {
    const char* forced = std::getenv(FORCED_BY);
    if (forced && *forced) return kernels_by_name(forced);
    const Kernels* sets[MOST_SETS];
    available(sets);
    return *sets[0];
}

}  // namespace wavenet
