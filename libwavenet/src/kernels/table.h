// Included by each kernel file: the shared loops, and the table of its functions.
#pragma once

#include "elementwise.h"
#include "frame_product.h"
#include "product.h"

namespace wavenet {
namespace {

// The table of an instruction set with the arithmetic F32 and I8.
template <class F32, class I8>
constexpr Kernels make_kernels(const char* name) {
    return {name,
            {product<F32>, multiply_adds<F32>, embed<float>, gate<float, float>, residual<float, float>,
             relu<float, float>, output<float>},
            {product<I8>, multiply_adds<I8>, embed<std::int16_t>, gate<std::int32_t, std::int16_t>,
             residual<std::int32_t, std::int16_t>, relu<std::int32_t, std::int16_t>, output<std::int32_t>},
            exponentials,
            frame_product};
}

}  // namespace
}  // namespace wavenet
