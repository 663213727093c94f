// AVX2 with FMA: x86 processors since about 2013.
#define VECTOR 8
#include "layers.h"

namespace wavenet {

extern const TrainingKernels avx2_training_kernels;
const TrainingKernels avx2_training_kernels = kernels("avx2");

}  // namespace wavenet
