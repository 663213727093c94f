// The interface through which a stream computes its samples on several threads. Without threads itself, for systems that
// have none.
#pragma once

#include <cstdint>
#include <memory>

#include "network.h"
#include "state.h"

namespace wavenet {

class ParallelStep {
public:
    virtual ~ParallelStep() = default;
    // Computes sample t of one stream up to its skip sums, and stores them in the stream's buffers.
    virtual void compute(std::uint64_t t) = 0;
    // The stream's queues have been changed since the last sample, other than by `compute`.
    virtual void restart() {}
};

// For a stream in real time, whose memory stays where it is, with a number of threads, the caller's included; 0: the
// fastest number on this machine now, which is measured. Null: one thread. Throws std::system_error if the system has no
// more threads.
template <class P>
std::unique_ptr<ParallelStep> make_parallel_step(const Network<P>& network, Memory<P>& memory, int threads);

}  // namespace wavenet
