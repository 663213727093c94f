// The network that predicts samples, with the state of one stream, independent of the precision.
#pragma once

#include <cstdint>
#include <memory>

#include "conditioning.h"
#include "config.h"
#include "sampling.h"
#include "weights.h"

namespace wavenet {

class FastTier {
public:
    virtual ~FastTier() = default;
    // Draws n codes. conditioning: of the first sample and those after it, null for a network without; muted [layers].
    virtual void generate(const Conditioning* conditioning, const double* uniforms, const Sampling& sampling,
                          const bool* muted, std::int64_t* codes, std::size_t n) = 0;
    // Continues as if these codes had been drawn.
    virtual void feed(const Conditioning* conditioning, const bool* muted, const std::int64_t* codes,
                      std::size_t n) = 0;
    // The same network, continuing from the same sample, on one thread.
    virtual std::unique_ptr<FastTier> copy() const = 0;
    // The number of threads from now on; 0: the fastest, which is measured.
    virtual void prepare(int threads) = 0;
    virtual const char* kernels() const = 0;

    // Of the newest sample: z of every layer [layers][G], and what the gate of the layer that is watched is applied to,
    // [a | b] [2][G], or zeros.
    virtual void gates(float* z) const = 0;
    virtual void watch(int layer) = 0;  // -1: none
    virtual void watched(float* ab) const = 0;
};

// precision: "f32" or "int8". Fails for others, and as `Weights` does.
std::unique_ptr<FastTier> make_fast_tier(const Config& config, const Tensors& tensors, const std::string& precision);

}  // namespace wavenet
