// AVX-512: x86 servers since 2017, and Zen 4 and later.
#define VECTOR 16
#include "layers.h"

namespace wavenet {

extern const TrainingKernels avx512_training_kernels;
const TrainingKernels avx512_training_kernels = kernels("avx512");

}  // namespace wavenet
