// From what a 16-bit network says, and a coin, to a code. The same as `sample_continuous` in wavenet/sampling.py, which
// says what each option means there.
#pragma once

#include <cstdint>
#include <vector>

#include "config.h"
#include "sampling.h"

namespace wavenet {

// Where a standard normal variable lies below a share in (0, 1).
double normal_quantile(double share);

// Draws codes; its buffer makes it a thing of one thread at a time.
class LinearSampler {
public:
    LinearSampler(Output output, int parts) : output_(output), cumulative_(parts) {}

    // A code for numbers [A], weights' logits (logistic), means and log scales, and a coin in [0, 1).
    std::int64_t draw(const float* numbers, double coin, const Sampling& sampling);

private:
    double quantile(const float* numbers, double coin, const Sampling& sampling);
    int pick(const float* logits, double& coin, const Sampling& sampling);

    Output output_;
    std::vector<double> cumulative_;  // [parts]
};

}  // namespace wavenet
