// One stream on several threads, split by data dependencies.
//
// In this file "main" is the thread that runs the call. It computes the current tap, gate and residual of every layer,
// the head and the draw: a sequential chain, less than half of the work. Workers compute the rest. At sample t a worker
// first computes the past taps of its layers, which depend only on samples up to t - 1, and then follows the layers of
// sample t, adding their z to the skip sums:
//
//     main      | layer 0 | layer 1 | ... | layer L-1 | its own skip rows | head, draw | layer 0 | ...
//                  ^ past 0   ^ past 1       v z          ^ other skip rows
//     worker    | past 0, 1, ... of t | skip of layers 0, 1, ... as they come | past 0, 1, ... of t + 1 | ...
//
// They synchronise through counters, each written by one thread only, without locks and barriers.
//
// The system can suspend a worker at any moment, for milliseconds. So a worker writes to buffers of its own, and main can
// compute everything that a worker computes, to the same bits. If a result is late, main computes it itself, leaves its
// queues and buffers to the worker, which may still read them, and continues on a copy. The worker rejoins once it has
// answered.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "network.h"
#include "parallel_step.h"
#include "spin.h"
#include "state.h"
#include "thread_pool.h"

namespace wavenet {

// How a sample is split: the number of workers, and the tiles of skip rows that main keeps. No workers: main alone.
struct Split {
    int workers = 0;
    int own_tiles = 0;
};
Split split_for(const Config& config, int workers);

// The workers' side, one job per call.
template <class P>
class PipelineJob : public Job {
public:
    PipelineJob(const Network<P>& network, int workers);
    void run(int worker) override;

    static constexpr std::uint64_t GONE = ~std::uint64_t(0);
    struct Worker {
        Counter order;   // written by main; odd: follow from sample `first` on; even: wait
        Counter answer;  // written by the worker: the order with which its current wait began, or GONE
        Counter past;    // written by the worker: layers whose past taps are done, summed over all samples
        Counter skip;    // written by the worker: samples whose skip sums are done
        // Main changes these, and the two counters, while the worker waits:
        Memory<P> memory;  // the queues and buffers that it reads
        std::uint64_t first = 0;
        int share = 0, shares = 1;    // it computes the past taps of layers share, share + shares, ...
        int tile = 0, last_tile = 0;  // and these tiles of the skip rows
        // The worker's results:
        AlignedVector<typename P::Sum> past_sums;  // [L][2G]
        AlignedVector<typename P::Sum> skip_sums;  // [S]
    };

    const Network<P>& network;
    Counter layers_done;             // written by main, summed over all samples
    std::atomic<int> processor{-1};  // the one on which main runs
    std::atomic<bool> closed{false};
    std::vector<Worker> workers;

private:
    void follow(Worker& worker, std::uint64_t order);
};

// Main's side.
template <class P>
class Pipeline : public ParallelStep {
public:
    Pipeline(const Network<P>& network, Memory<P>& memory, ThreadPool& pool);
    ~Pipeline() override;
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    // Sets the split of the next samples, and how long to wait for a worker's result.
    void use(Split split, Spin::Clock::duration patience);
    void compute(std::uint64_t t) override;

private:
    using Worker = typename PipelineJob<P>::Worker;
    void stop(int worker);
    void stop_all();
    bool reads_memory(const Worker& worker) const;
    void reclaim_memory();
    void leave_memory();
    void start_idle_workers(std::uint64_t t);
    bool reaches(int worker, const Counter& counter, std::uint64_t least);
    typename P::Sum* past(int layer, std::uint64_t t);
    int first_tile(int worker) const;

    const Network<P>& network_;
    Memory<P>& memory_;
    ThreadPool& pool_;
    const std::shared_ptr<PipelineJob<P>> job_;
    Split split_;
    Spin::Clock::duration patience_{};
    std::vector<bool> following_;
    AlignedVector<typename P::Sum> past_sums_;  // [L][2G], computed by main
};

extern template class PipelineJob<Float32>;
extern template class PipelineJob<Int8>;
extern template class Pipeline<Float32>;
extern template class Pipeline<Int8>;

}  // namespace wavenet
