#include "realtime_pipeline.h"

#include <algorithm>
#include <chrono>
#include <functional>

#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

namespace wavenet {
namespace {

using Clock = std::chrono::steady_clock;

// The least of several durations of `work`, in seconds.
template <class Work>
double least_seconds(Work work) {
    double least = 1;
    for (int trial = 0; trial < 7; ++trial) {
        const auto start = Clock::now();
        work();
        least = std::min(least, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return least;
}

}  // namespace

template <class P>
RealTimePipeline<P>::Worker::Worker(const Config& c)
    : inputs(RING * c.layers() * c.residual_width()),
      z(RING * c.all_gates_width()),
      queues(c, 1),
      past_sums(std::size_t(c.layers()) * 2 * c.gate_width()),
      skip_sums(c.skip_width()) {}

template <class P>
RealTimePipeline<P>::Shared::Shared(const Network<P>& network, int count) : network(network) {
    for (int index = 0; index < count; ++index) workers.push_back(std::make_unique<Worker>(network.config()));
}

template <class P>
RealTimePipeline<P>::Shared::~Shared() {
    closed.store(true, std::memory_order_release);
    for (auto& worker : workers)
        if (worker->thread.joinable()) worker->thread.join();
}

// Whether the worker's queues contain all inputs of a layer's past taps at sample t.
template <class P>
bool RealTimePipeline<P>::Shared::reaches_back(const Worker& worker, int layer, std::uint64_t t) const {
    return !worker.first || t - worker.first >= network.config().delay(layer, 0);
}

template <class P>
void RealTimePipeline<P>::Shared::run(Worker& worker) {
    for (Spin idle; !closed.load(std::memory_order_acquire);) {
        const std::uint64_t order = worker.order.get();
        if (order % 2) {
            follow(worker, order);
            idle = Spin();
        } else {
            worker.answer.set(order);
            idle.patiently();
        }
    }
}

template <class P>
void RealTimePipeline<P>::Shared::follow(Worker& worker, std::uint64_t order) {
    const Config& config = network.config();
    const int layers = config.layers(), gates = config.gate_width(), width = config.residual_width();
    const int workers = int(this->workers.size());
    const auto stopped = [&] { return worker.order.get() != order || closed.load(std::memory_order_acquire); };
    if (!worker.first) worker.queues.clear();
    for (std::uint64_t t = worker.first; !stopped(); ++t) {
        const std::uint64_t begin = t * layers;
        for (int layer = worker.share; layer < layers; layer += workers) {
            if (layers_done.get() > begin + layer || !reaches_back(worker, layer, t)) continue;
            network.step.past(worker.queues, &worker.past_sums[std::size_t(layer) * 2 * gates], layer, t);
            worker.past.set(begin + layer + 1);
        }
        const Input* const z = &worker.z[t % RING * config.all_gates_width()];
        bool sums = worker.tile < worker.last_tile;
        for (int done = 0; done < layers;) {
            std::uint64_t available = 0;  // main's layers since the start of sample t
            for (Spin spin; (available = layers_done.get() - begin) <= std::uint64_t(done); spin.patiently())
                if (stopped()) return;
            const int last = int(std::min<std::uint64_t>(available, layers));
            for (int layer = done; layer < last; ++layer)
                if (layer % workers == worker.share)
                    std::copy_n(&worker.inputs[(t % RING * layers + layer) * width], width,
                                worker.queues.input(layer, t));
            sums = sums && available <= std::uint64_t(layers);  // else main does not need them any more
            if (sums) network.step.skip(1, z, worker.skip_sums.data(), worker.tile, worker.last_tile, done, last);
            done = last;
        }
        if (sums) worker.skip.set(t + 1);
        worker.received.set(t + 1);
    }
}

template <class P>
RealTimePipeline<P>::RealTimePipeline(const Network<P>& network, Memory<P>& memory, int workers)
    : network_(network),
      memory_(memory),
      shared_(std::make_unique<Shared>(network, workers)),
      process_(getpid()),
      past_sums_(std::size_t(network.config().layers()) * 2 * network.config().gate_width()) {
    split_ = split_for(network.config(), workers);
    measure();
    for (int index = 0; index < workers; ++index) {
        Worker& worker = *shared_->workers[index];
        const int tiles = network.config().skip_tiles() - split_.own_tiles;
        worker.share = index;
        worker.tile = split_.own_tiles + tiles * index / workers;
        worker.last_tile = split_.own_tiles + tiles * (index + 1) / workers;
        worker.answer.set(NONE);
        worker.thread = std::thread(&Shared::run, shared_.get(), std::ref(worker));
    }
}

template <class P>
RealTimePipeline<P>::~RealTimePipeline() {
    if (process_ != getpid()) (void)shared_.release();
}

// Before the threads run: how many turns of a spin loop take as long as the work of a worker.
template <class P>
void RealTimePipeline<P>::measure() {
    if (!split_.workers) return;
    const Config& config = network_.config();
    const int layers = config.layers(), tiles = config.skip_tiles() - split_.own_tiles;
    constexpr int TURNS = 500;
    Worker& worker = *shared_->workers[0];
    const double turn = least_seconds([&] {
                            for (int i = 0; i < TURNS; ++i)
                                if (!worker.order.get()) pause();
                        }) /
                        TURNS;
    const double past =
        least_seconds([&] {
            for (int layer = 0; layer < layers; ++layer)
                network_.step.past(worker.queues, &past_sums_[std::size_t(layer) * 2 * config.gate_width()], layer, 0);
        }) /
        layers;
    const double skip = least_seconds([&] {
                            network_.step.skip(1, worker.z.data(), worker.skip_sums.data(), split_.own_tiles,
                                               config.skip_tiles(), 0, layers);
                        }) /
                        split_.workers;
    past_turns_ = int(past / turn) + 1;
    skip_turns_ = tiles ? int(skip / turn) + 1 : 0;
}

template <class P>
void RealTimePipeline<P>::stop(Worker& worker) {
    if (!worker.following) return;
    worker.following = false;
    worker.order.set(worker.order.get() + 1);
}

// Before sample t: stops workers whose ring is full, and starts those that have answered.
template <class P>
void RealTimePipeline<P>::give_orders(std::uint64_t t) {
    for (auto& each : shared_->workers) {
        Worker& worker = *each;
        if (t != next_ || t - worker.received.get() >= RING) stop(worker);
        if (worker.following || worker.answer.get() != worker.order.get()) continue;
        worker.first = t;
        worker.past.set(0);
        worker.skip.set(0);
        worker.received.set(t);
        worker.late = false;
        worker.following = true;
        if (t != next_) shared_->layers_done.set(t * network_.config().layers());
        worker.order.set(worker.order.get() + 1);
    }
}

// Whether the worker's counter reaches `least` within some turns of a spin loop.
template <class P>
bool RealTimePipeline<P>::ready(Worker& worker, const Counter& counter, std::uint64_t least, int turns) {
    if (!worker.following) return false;
    for (int turn = 0; counter.get() < least; ++turn) {
        worker.late = worker.late || turn >= turns;
        if (worker.late) return false;
        pause();
    }
    worker.late = false;
    return true;
}

// The sums of the past taps of a layer: the worker's, or computed here.
template <class P>
typename P::Sum* RealTimePipeline<P>::past(int layer, std::uint64_t t) {
    const std::size_t at = std::size_t(layer) * 2 * network_.config().gate_width();
    if (split_.workers) {
        Worker& worker = *shared_->workers[layer % split_.workers];
        const std::uint64_t least = t * network_.config().layers() + layer + 1;
        if (shared_->reaches_back(worker, layer, t) && ready(worker, worker.past, least, past_turns_))
            return &worker.past_sums[at];
    }
    network_.step.past(*memory_.queues, &past_sums_[at], layer, t);
    return &past_sums_[at];
}

// Sends a layer's input and z of sample t.
template <class P>
void RealTimePipeline<P>::send(int layer, std::uint64_t t) {
    const Config& config = network_.config();
    const int layers = config.layers(), gates = config.gate_width(), width = config.residual_width();
    const std::size_t slot = t % RING * layers + layer;
    for (auto& worker : shared_->workers) {
        if (!worker->following) continue;
        if (layer % split_.workers == worker->share)
            std::copy_n(memory_.queues->input(layer, t), width, &worker->inputs[slot * width]);
        if (worker->tile < worker->last_tile)
            std::copy_n(&memory_.buffers->z[std::size_t(layer) * gates], gates, &worker->z[slot * gates]);
    }
    shared_->layers_done.set(t * layers + layer + 1);
}

template <class P>
void RealTimePipeline<P>::compute(std::uint64_t t) {
    const Step<P>& step = network_.step;
    const int layers = network_.config().layers();
    Queues<P>& queues = *memory_.queues;
    StepBuffers<P>& buffers = *memory_.buffers;

    give_orders(t);
    next_ = t + 1;
    Sum* sums = past(0, t);
    step.embed(queues, buffers, t);
    for (int layer = 0; layer < layers; ++layer) {
        // before this layer writes the next one's input, which may replace that one's oldest
        Sum* const next = layer + 1 < layers ? past(layer + 1, t) : nullptr;
        step.layer(queues, buffers, sums, layer, t);
        send(layer, t);
        sums = next;
    }
    const auto skip = [&](int tile, int last_tile) {
        if (tile < last_tile) step.skip(1, buffers.z.data(), buffers.skip.data(), tile, last_tile, 0, layers);
    };
    skip(0, split_.workers ? split_.own_tiles : network_.config().skip_tiles());
    for (auto& worker : shared_->workers) {
        if (worker->tile == worker->last_tile) continue;
        const std::size_t first = worker->tile * TILE,
                          last = std::min(worker->last_tile * TILE, int(buffers.skip.size()));
        if (ready(*worker, worker->skip, t + 1, skip_turns_))
            std::copy(&worker->skip_sums[first], worker->skip_sums.data() + last, &buffers.skip[first]);
        else skip(worker->tile, worker->last_tile);
    }
}

template <class P>
int fastest_workers(const Network<P>& network, int most) {
    constexpr double WARM_UP = 0.01, MEASURED = 0.02;  // seconds
    const Config& config = network.config();
    const AlignedVector<float> biases(std::size_t(config.layers()) * 2 * config.gate_width());
    double least = 0;
    int fastest = 0;
    for (int workers = 0; workers <= most; ++workers) {
        Memory<P> memory(config, 1);
        memory.buffers->biases = {biases.data(), biases.data(), 0, 0};
        RealTimePipeline<P> pipeline(network, memory, workers);
        std::uint64_t t = 0;
        const auto seconds_per_sample = [&](double seconds) {
            const std::uint64_t first = t;
            const auto start = Clock::now();
            double spent = 0;
            for (; spent < seconds; spent = std::chrono::duration<double>(Clock::now() - start).count())
                pipeline.compute(t++);
            return spent / double(t - first);
        };
        seconds_per_sample(WARM_UP);
        const double seconds = seconds_per_sample(MEASURED);
        if (!workers || seconds < least) {
            least = seconds;
            fastest = workers;
        }
    }
    return fastest;
}

template <class P>
std::unique_ptr<ParallelStep> make_parallel_step(const Network<P>& network, Memory<P>& memory, int threads) {
    constexpr unsigned MOST = 4;  // more do not make one stream faster
    const int workers =
        threads ? threads - 1
                : fastest_workers(network, int(std::clamp(std::thread::hardware_concurrency(), 1u, MOST)) - 1);
    return workers ? std::make_unique<RealTimePipeline<P>>(network, memory, workers) : nullptr;
}

template class RealTimePipeline<Float32>;
template class RealTimePipeline<Int8>;
template int fastest_workers(const Network<Float32>&, int);
template int fastest_workers(const Network<Int8>&, int);
template std::unique_ptr<ParallelStep> make_parallel_step(const Network<Float32>&, Memory<Float32>&, int);
template std::unique_ptr<ParallelStep> make_parallel_step(const Network<Int8>&, Memory<Int8>&, int);

}  // namespace wavenet
