// AVX-512 without VNNI: Skylake servers.
#include "avx512.h"

namespace wavenet {

extern const Kernels avx512_kernels;
const Kernels avx512_kernels = make_kernels<F32, I8>("avx512");

}  // namespace wavenet
