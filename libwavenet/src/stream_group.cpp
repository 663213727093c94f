#include "stream_group.h"

#include <algorithm>

namespace wavenet {
namespace {

// One sample up to its skip sums, on one thread.
template <class P>
void compute(const Network<P>& network, Memory<P>& memory, bool predicts, std::uint64_t t) {
    const Config& config = network.config();
    const Step<P>& step = network.step;
    Queues<P>& queues = *memory.queues;
    StepBuffers<P>& buffers = *memory.buffers;
    const int layers = config.layers();
    const std::size_t sums = std::size_t(queues.streams) * 2 * config.gate_width();
    for (int layer = 0; layer < layers; ++layer) step.past(queues, &buffers.past[layer * sums], layer, t);
    step.embed(queues, buffers, t);
    for (int layer = 0; layer < layers; ++layer) step.layer(queues, buffers, &buffers.past[layer * sums], layer, t);
    // several streams: layer by layer, so that the weights stay in the nearest cache for all of them
    const int together = queues.streams == 1 ? layers : 1;
    for (int layer = 0; predicts && layer < layers; layer += together)
        step.skip(queues.streams, buffers.z.data(), buffers.skip.data(), 0, config.skip_tiles(), layer,
                  layer + together);
}

}  // namespace

template <class P>
void advance(const Network<P>& network, StreamGroup<P>& group, const Request& request, std::size_t first,
             std::size_t from, std::size_t to, ParallelStep* parallel) {
    const Config& config = network.config();
    for (std::size_t i = from; i < to; ++i) {
        const std::uint64_t t = group.memory.queues->position;
        group.memory.buffers->muted = request.muted;
        network.step.prepare(*group.memory.queues, *group.memory.buffers, request.conditioning, int(first),
                             request.offset + i);
        if (parallel) parallel->compute(t);
        else compute(network, group.memory, request.predicts(), t);
        Queues<P>& queues = *group.memory.queues;  // the pipeline may have replaced them
        StepBuffers<P>& buffers = *group.memory.buffers;
        ++queues.position;
        if (request.predicts()) network.step.head(queues, buffers);
        for (int s = 0; s < queues.streams; ++s) {
            const float* const parameters = &buffers.parameters[std::size_t(s) * config.output_width()];
            const std::size_t at = (first + s) * request.length + request.first + i;
            if (request.outputs)
                std::copy_n(parameters, config.output_channels, request.outputs + at * config.output_channels);
            if (request.uniforms) {
                const double uniform = request.uniforms[at];
                Sampling sampling = request.sampling;
                if (request.temperatures) sampling.temperature = request.temperatures[at];
                queues.codes[s] = config.output == Output::MU_LAW
                                      ? group.sampler.draw(network.kernels, parameters, uniform, sampling)
                                      : group.continuous_sampler.draw(parameters, uniform, sampling);
                request.drawn[at] = queues.codes[s];
            } else {
                queues.codes[s] = request.given[at];
            }
        }
    }
}

template void advance(const Network<Float32>&, StreamGroup<Float32>&, const Request&, std::size_t, std::size_t,
                      std::size_t, ParallelStep*);
template void advance(const Network<Int8>&, StreamGroup<Int8>&, const Request&, std::size_t, std::size_t, std::size_t,
                      ParallelStep*);

}  // namespace wavenet
