// Draws codes from logits: temperature, top-k, top-p, inverse transform sampling. The same as
// wavenet/engine/sampling.py, where each step is explained.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace wavenet {

struct Sampling {
    double temperature = 1;
    int top_k = 0;                                      // 0: from all codes
    double top_p = 1;                                   // 1: from all codes
    bool greedy() const { return temperature < 1e-9; }  // the most probable code, independent of the uniform
};

// Draws mu-law codes. It has buffers: one object per thread.
class CategoricalSampler {
public:
    explicit CategoricalSampler(int outputs);

    // A code for finite logits [outputs] and a uniform random number in [0, 1).
    int draw(const Kernels& kernels, const float* logits, double uniform, const Sampling& sampling);

private:
    struct Ranked {
        float logit, weight;
        int code;
    };
    void truncate(const float* logits, const Sampling& sampling);
    double total() const;
    int inverse(double uniform) const;

    int outputs_;
    std::vector<float> weights_;  // padded with zeros to whole blocks
    std::vector<Ranked> ranked_;
};

}  // namespace wavenet
