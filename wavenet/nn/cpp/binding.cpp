// The extension module wavenet.nn._kernels, used by wavenet/nn/kernels.py: layers on memory that PyTorch owns, given as
// addresses. Every function runs without the interpreter's lock, on the calling thread alone.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "kernels.h"

namespace nb = nanobind;
using namespace wavenet;

namespace wavenet {
extern const TrainingKernels avx2_training_kernels, avx512_training_kernels;
}

namespace {

// The best that this machine has, or null.
const TrainingKernels* best() {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const char* const forced = std::getenv("WAVENET_KERNELS");  // as of the engine: "avx512", "avx512vnni", "avx2", ...
    const std::string name = forced ? forced : "";
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        (name.empty() || name.rfind("avx512", 0) == 0))
        return &avx512_training_kernels;
    if (avx2 && (name.empty() || name == "avx2")) return &avx2_training_kernels;
    return nullptr;
}

float* floats(std::uintptr_t address) { return reinterpret_cast<float*>(address); }

}  // namespace

NB_MODULE(_kernels, m) {
    static const TrainingKernels* const chosen = best();
    m.def("name", [] { return std::string(chosen ? chosen->name : ""); });
    using Address = std::uintptr_t;
    m.def(
        "layer_forward",
        [](std::size_t rows, std::size_t shift, int taps, int residual, int gate, Address x, Address dilated,
           Address bias, bool bias_per_row, Address projection, Address projection_bias, Address sigmoid, Address z,
           std::size_t z_stride, Address next) {
            chosen->layer_forward({rows, shift, taps, residual, gate, 0},
                                  {floats(x), floats(dilated), floats(bias), bias_per_row, floats(projection),
                                   floats(projection_bias), floats(sigmoid), floats(z), z_stride, floats(next)});
        },
        nb::call_guard<nb::gil_scoped_release>());
    m.def(
        "layer_backward",
        [](std::size_t rows, std::size_t shift, int taps, int residual, int gate, int skip_channels, Address x,
           Address sigmoid, Address z, std::size_t z_stride, Address dilated, Address projection, Address skip,
           Address grad_skip, Address grad_rows, Address grad_gates, Address grad_dilated, Address grad_bias,
           Address grad_projection, Address grad_projection_bias) {
            chosen->layer_backward(
                {rows, shift, taps, residual, gate, skip_channels},
                {floats(x), floats(sigmoid), floats(z), z_stride, floats(dilated), floats(projection), floats(skip),
                 floats(grad_skip), floats(grad_rows), floats(grad_gates), floats(grad_dilated), floats(grad_bias),
                 floats(grad_projection), floats(grad_projection_bias)});
        },
        nb::call_guard<nb::gil_scoped_release>());
    m.def(
        "linear_forward",
        [](std::size_t rows, int inputs, int outputs, bool relu, Address x, Address weight, Address bias, Address y) {
            chosen->linear_forward({rows, inputs, outputs, relu, floats(x)}, floats(weight), floats(bias), floats(y));
        },
        nb::call_guard<nb::gil_scoped_release>());
    m.def(
        "linear_backward",
        [](std::size_t rows, int inputs, int outputs, bool relu, Address x, Address grad, Address weight,
           Address grad_x, Address grad_weight, Address grad_bias) {
            chosen->linear_backward({rows, inputs, outputs, relu, floats(x)}, floats(grad), floats(weight),
                                    floats(grad_x), floats(grad_weight), floats(grad_bias));
        },
        nb::call_guard<nb::gil_scoped_release>());
}
