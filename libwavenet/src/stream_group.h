// A few streams that advance together, sample by sample.
#pragma once

#include <cstddef>

#include "continuous_sampling.h"
#include "network.h"
#include "parallel_step.h"
#include "request.h"
#include "state.h"

namespace wavenet {

template <class P>
struct StreamGroup {
    StreamGroup(const Config& config, int streams) : StreamGroup(config, Memory<P>(config, streams)) {}
    // Continues from the same sample.
    StreamGroup(const Config& config, const Queues<P>& queues) : StreamGroup(config, Memory<P>(config, queues)) {}
    StreamGroup(const Config& config, Memory<P> memory)
        : memory(std::move(memory)),
          sampler(config.output_channels),
          continuous_sampler(config.output, config.components) {}
    int streams() const { return memory.queues->streams; }

    Memory<P> memory;
    CategoricalSampler sampler;
    ContinuousSampler continuous_sampler;
};

// Computes samples [from, to) of a request for one group, whose first stream is row `first` of the request; on several
// threads if there is a pipeline (`parallel`).
template <class P>
void advance(const Network<P>& network, StreamGroup<P>& group, const Request& request, std::size_t first,
             std::size_t from, std::size_t to, ParallelStep* parallel);

}  // namespace wavenet
