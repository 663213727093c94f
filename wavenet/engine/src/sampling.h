// From logits and a coin to a code: temperature, top-k, top-p, inverse of the cumulative distribution. The same as
// wavenet/sampling.py, which says what each of them means.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace wavenet {

struct Sampling {
    double temperature = 1;
    bool greedy = false;  // the most probable code, whatever the coin says
    int top_k = 0;        // 0: among all codes
    double top_p = 1;     // 1: among all codes
};

// Draws codes; its buffers make it a thing of one thread at a time.
class Sampler {
public:
    explicit Sampler(int outputs);

    // A code for finite logits [outputs] and a coin in [0, 1).
    int draw(const Kernels& kernels, const float* logits, double coin, const Sampling& sampling);

private:
    struct Ranked {
        float logit, weight;
        int code;
    };
    void truncate(const float* logits, const Sampling& sampling);
    double total() const;
    int inverse(double coin) const;

    int outputs_;
    std::vector<float> weights_;  // padded with zeros to whole blocks
    std::vector<Ranked> ranked_;
};

}  // namespace wavenet
