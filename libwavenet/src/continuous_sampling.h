// Draws 16-bit codes from the distribution that the output parameters describe. The same as `sample_continuous` in
// wavenet/engine/sampling.py, which explains each option.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "sampling.h"

namespace wavenet {

// The quantile function of the standard normal distribution, for probabilities in (0, 1).
double normal_quantile(double probability);

// Draws 16-bit codes. It has a buffer: one object per thread.
class ContinuousSampler {
public:
    ContinuousSampler(Output output, int components) : output_(output), cumulative_(components) {}

    // A code for the output parameters [A] (logits of the components for logistic mixtures, means, log scales) and a
    // uniform random number in [0, 1).
    std::int64_t draw(const float* parameters, double uniform, const Sampling& sampling);

private:
    double quantile(const float* parameters, double uniform, const Sampling& sampling);
    int pick_component(const float* logits, double& uniform, const Sampling& sampling);

    Output output_;
    std::vector<double> cumulative_;  // [components]
};

}  // namespace wavenet
