// AVX-512 with VNNI: Intel since Ice Lake, AMD since Zen 4.
#include "avx512.h"

namespace wavenet {

extern const Kernels avx512vnni_kernels;
const Kernels avx512vnni_kernels = make_kernels<F32, I8>("avx512vnni");

}  // namespace wavenet
