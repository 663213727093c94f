// The interface through which a stream computes its samples on several threads.
#pragma once

#include <cstdint>

namespace wavenet {

class ParallelStep {
public:
    virtual ~ParallelStep() = default;
    // Computes sample t of one stream up to its skip sums, and stores them in the stream's buffers.
    virtual void compute(std::uint64_t t) = 0;
};

}  // namespace wavenet
