// The immutable part of an engine, shared by its states.
#pragma once

#include "step.h"
#include "weights.h"

namespace wavenet {

template <class P>
struct Network {
    Network(const Config& config, const Tensors& tensors)
        : kernels(chosen_kernels()), weights(config, tensors), step(weights, kernels) {}
    Network(const Network&) = delete;  // step refers to weights
    Network& operator=(const Network&) = delete;
    const Config& config() const { return weights.config; }

    const Kernels& kernels;
    const Weights<P> weights;
    const Step<P> step;
};

}  // namespace wavenet
