#include "pipeline.h"

#include <algorithm>
#include <new>

namespace wavenet {

// Chosen so that main and the workers finish at the same time: of the work W = past + skip that workers can do, main does
// x in addition to its own M = current taps + residual + head, where M + x = (W - x) / workers.
Split split_for(const Config& c, int workers) {
    if (!workers) return {};
    const double layers = c.layers(), skip = double(c.skip_width()) * c.all_gates_width();
    const double current = 2.0 * c.gate_width() * c.residual_width() * layers, past = current * c.past_taps();
    const double residual = double(c.residual_width()) * c.gate_width() * (layers - 1);
    const double head = double(c.head_width()) * (c.skip_width() + c.output_width());
    constexpr double OVERHEAD = 1.2;  // of main: gates, the draw, and the latency between cores
    const double kept = (past + skip - workers * OVERHEAD * (current + residual + head)) / (1 + workers);
    const int tiles = int(kept / (skip / c.skip_tiles()));
    return {workers, std::clamp(tiles, 0, c.skip_tiles())};
}

template <class P>
PipelineJob<P>::PipelineJob(const Network<P>& network, int count) : network(network), workers(count) {
    for (Worker& worker : workers) {
        worker.answer.set(GONE);
        worker.past_sums.resize(std::size_t(network.config().layers()) * 2 * network.config().gate_width());
        worker.skip_sums.resize(network.config().skip_width());
    }
}

template <class P>
void PipelineJob<P>::run(int index) {
    Worker& worker = workers[index];
    // Main takes a worker that has left for one that does not read. So an order that was given just before it left is not
    // followed when it returns, until main has withdrawn it.
    bool has_answered = false;
    Spin idle;
    while (!closed.load(std::memory_order_acquire)) {
        const std::uint64_t order = worker.order.get();
        if (order % 2 && has_answered) {
            follow(worker, order);
            idle = Spin();
            continue;
        }
        if (order % 2 == 0) {
            move_off(processor.load(std::memory_order_relaxed));
            worker.answer.set(order);
            has_answered = true;
        }
        if (!idle.again(IDLE)) break;
    }
    worker.answer.set(GONE);
}

template <class P>
void PipelineJob<P>::follow(Worker& worker, std::uint64_t order) {
    const int layers = network.config().layers(), gates = network.config().gate_width();
    Queues<P>& queues = *worker.memory.queues;
    const StepBuffers<P>& buffers = *worker.memory.buffers;
    for (std::uint64_t t = worker.first;; ++t) {
        // The queues contain all of sample t - 1: its last layer was done before this point, or before the order.
        for (int layer = worker.share; layer < layers; layer += worker.shares) {
            if (worker.order.get() != order) return;
            network.step.past(queues, &worker.past_sums[std::size_t(layer) * 2 * gates], layer, t);
            worker.past.set(t * layers + layer + 1);
        }
        for (int done = 0; done < layers;) {
            int available = 0;
            for (Spin spin; (available = int(std::min<std::uint64_t>(layers_done.get() - t * layers, layers))) <= done;
                 spin.patiently())
                if (worker.order.get() != order) return;
            if (worker.tile < worker.last_tile)
                network.step.skip(1, buffers.z.data(), worker.skip_sums.data(), worker.tile, worker.last_tile, done,
                                  available);
            done = available;
        }
        worker.skip.set(t + 1);
    }
}

template <class P>
Pipeline<P>::Pipeline(const Network<P>& network, Memory<P>& memory, ThreadPool& pool)
    : network_(network),
      memory_(memory),
      pool_(pool),
      job_(std::make_shared<PipelineJob<P>>(network, pool.helpers())),
      following_(pool.helpers(), false),
      past_sums_(std::size_t(network.config().layers()) * 2 * network.config().gate_width()) {
    job_->layers_done.set(memory.queues->position * network.config().layers());
}

template <class P>
Pipeline<P>::~Pipeline() {
    stop_all();
    reclaim_memory();
    job_->closed.store(true, std::memory_order_release);
}

template <class P>
void Pipeline<P>::stop(int worker) {
    if (!following_[worker]) return;
    following_[worker] = false;
    Counter& order = job_->workers[worker].order;
    order.set(order.get() + 1);
}

template <class P>
void Pipeline<P>::stop_all() {
    for (std::size_t worker = 0; worker < following_.size(); ++worker) stop(int(worker));
}

// Whether a worker that was stopped may still be reading the memory that main uses.
template <class P>
bool Pipeline<P>::reads_memory(const Worker& worker) const {
    const std::uint64_t answer = worker.answer.get();
    return worker.memory.queues == memory_.queues && answer != PipelineJob<P>::GONE && answer != worker.order.get();
}

// After all workers were stopped: waits until none reads the memory, or leaves it to one that is late.
template <class P>
void Pipeline<P>::reclaim_memory() {
    for (const Worker& worker : job_->workers)
        for (Spin spin; reads_memory(worker);)
            if (!spin.again(patience_)) return leave_memory();
}

// After all workers were stopped: leaves the memory to those that still read it.
template <class P>
void Pipeline<P>::leave_memory() {
    try {
        Memory<P> copy = memory_;
        copy.queues = std::make_shared<Queues<P>>(*memory_.queues);
        copy.buffers = std::make_shared<StepBuffers<P>>(*memory_.buffers);
        memory_ = std::move(copy);
    } catch (const std::bad_alloc&) {  // wait for them instead
        for (const Worker& worker : job_->workers)
            for (Spin spin; reads_memory(worker);) spin.patiently();
    }
}

template <class P>
void Pipeline<P>::use(Split split, Spin::Clock::duration patience) {
    patience_ = patience;
    if (split.workers != split_.workers || split.own_tiles != split_.own_tiles) {
        stop_all();
        reclaim_memory();
    }
    split_ = split;
    job_->processor.store(current_processor(), std::memory_order_relaxed);
    for (int worker = 0; worker < split_.workers; ++worker)
        if (job_->workers[worker].answer.get() == PipelineJob<P>::GONE) {
            pool_.post(job_);
            break;
        }
}

// The first tile of the skip rows that a worker computes.
template <class P>
int Pipeline<P>::first_tile(int worker) const {
    const int shared = network_.config().skip_tiles() - split_.own_tiles;
    return split_.own_tiles + shared * worker / split_.workers;
}

// Orders every worker that has answered its last order to follow.
template <class P>
void Pipeline<P>::start_idle_workers(std::uint64_t t) {
    for (int index = 0; index < split_.workers; ++index) {
        Worker& worker = job_->workers[index];
        if (following_[index] || worker.answer.get() != worker.order.get()) continue;
        worker.memory = memory_;
        worker.first = t;
        worker.share = index;
        worker.shares = split_.workers;
        worker.tile = first_tile(index);
        worker.last_tile = first_tile(index + 1);
        worker.past.set(0);  // it may have been ahead, with sums that it will compute again
        worker.skip.set(0);
        following_[index] = true;
        worker.order.set(worker.order.get() + 1);
    }
}

// Whether the worker's counter reaches `least` in time. If not, all workers are stopped, and main continues on a copy.
template <class P>
bool Pipeline<P>::reaches(int worker, const Counter& counter, std::uint64_t least) {
    if (!following_[worker]) return false;
    for (Spin spin; counter.get() < least;)
        if (!spin.again(patience_)) {
            stop_all();
            leave_memory();
            return false;
        }
    return true;
}

// The sums of the past taps of a layer: the worker's, or computed here.
template <class P>
typename P::Sum* Pipeline<P>::past(int layer, std::uint64_t t) {
    const std::size_t at = std::size_t(layer) * 2 * network_.config().gate_width();
    if (split_.workers) {
        const int index = layer % split_.workers;
        Worker& worker = job_->workers[index];
        if (reaches(index, worker.past, t * network_.config().layers() + layer + 1)) return &worker.past_sums[at];
    }
    network_.step.past(*memory_.queues, &past_sums_[at], layer, t);
    return &past_sums_[at];
}

template <class P>
void Pipeline<P>::compute(std::uint64_t t) {
    const Step<P>& step = network_.step;
    const int layers = network_.config().layers();

    start_idle_workers(t);
    typename P::Sum* sums = past(0, t);
    step.embed(*memory_.queues, *memory_.buffers, t);
    for (int layer = 0; layer < layers; ++layer) {
        // before this layer writes the next one's input, which may replace that one's oldest
        typename P::Sum* const next = layer + 1 < layers ? past(layer + 1, t) : nullptr;
        step.layer(*memory_.queues, *memory_.buffers, sums, layer, t);
        job_->layers_done.set(t * layers + layer + 1);
        sums = next;
    }
    const auto skip = [&](int tile, int last_tile) {
        StepBuffers<P>& buffers = *memory_.buffers;
        step.skip(1, buffers.z.data(), buffers.skip.data(), tile, last_tile, 0, layers);
    };
    if (!split_.workers) return skip(0, network_.config().skip_tiles());
    if (split_.own_tiles) skip(0, split_.own_tiles);
    for (int index = 0; index < split_.workers; ++index) {
        const int tile = first_tile(index), last_tile = first_tile(index + 1);
        if (tile == last_tile) continue;
        const Worker& worker = job_->workers[index];
        if (reaches(index, worker.skip, t + 1))
            std::copy(&worker.skip_sums[tile * TILE],
                      worker.skip_sums.data() + std::min<std::size_t>(last_tile * TILE, worker.skip_sums.size()),
                      &memory_.buffers->skip[tile * TILE]);
        else skip(tile, last_tile);
    }
}

template class PipelineJob<Float32>;
template class PipelineJob<Int8>;
template class Pipeline<Float32>;
template class Pipeline<Int8>;

}  // namespace wavenet
