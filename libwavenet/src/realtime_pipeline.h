// One stream on several threads in real time: the caller takes no lock, makes no system call and allocates nothing.
//
// Main, the caller, and the workers divide a sample as in pipeline.h. But they share no queues: main sends every worker
// the inputs of its layers, and z, through a ring of a few samples, and the worker keeps queues of its own. So nothing
// that a worker reads is overwritten meanwhile, however long the system suspends it:
//
//     main      | sends sample t | t + 1 | ... | the ring is full: stops the worker, computes alone | starts it again
//     worker    | t | suspended ............................................... | t + 1 | answers  | receives
//
// After such a gap a worker's queues are empty: it computes the past taps of a layer again once it has received as many
// samples as they reach back. Main waits for a result at most as long as computing it takes, and for a worker that was
// late not at all until a result is there in time. A worker that has nothing to do spins, then sleeps for moments: main
// never wakes it.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "network.h"
#include "parallel_step.h"
#include "pipeline.h"
#include "spin.h"
#include "state.h"

namespace wavenet {

template <class P>
class RealTimePipeline : public ParallelStep {
public:
    // For the stream of this memory, which stays where it is. Starts the workers, and measures how long to wait for
    // them. Throws std::system_error if there are no more threads.
    RealTimePipeline(const Network<P>& network, Memory<P>& memory, int workers);
    ~RealTimePipeline() override;  // ends them; at most a few milliseconds
    RealTimePipeline(const RealTimePipeline&) = delete;
    RealTimePipeline& operator=(const RealTimePipeline&) = delete;

    int workers() const { return split_.workers; }
    // In real time. If t does not follow the last sample, the workers restart, with empty queues.
    void compute(std::uint64_t t) override;
    void restart() override { next_ = NONE; }

private:
    using Input = typename P::Input;
    using Sum = typename P::Sum;
    static constexpr std::uint64_t NONE = ~std::uint64_t(0);
    static constexpr std::size_t RING = 8;  // samples; larger ones leave the nearest caches

    struct Worker {
        Worker(const Config& config);
        Counter order;     // written by main; odd: follow from sample `first` on; even: wait
        Counter answer;    // written by the worker: the order with which its wait began
        Counter past;      // written by the worker: layers whose past taps are done, summed over all samples
        Counter skip;      // written by the worker: the sample after the one whose skip sums are done
        Counter received;  // written by the worker: the sample after the last one that it has taken from the ring
        // Main changes these, and the last three counters, while the worker waits:
        std::uint64_t first = 0;
        int share = 0;                // it computes the past taps of layers share, share + workers, ...
        int tile = 0, last_tile = 0;  // and these tiles of the skip rows
        // Written by main, a sample per slot:
        AlignedVector<Input> inputs;  // [RING][L][R], of its layers
        AlignedVector<Input> z;       // [RING][L][G]
        // The worker's:
        Queues<P> queues;
        AlignedVector<Sum> past_sums;  // [L][2G]
        AlignedVector<Sum> skip_sums;  // [S]
        // Main's:
        bool following = false;
        bool late = false;  // its last result was not there in time
        std::thread thread;
    };
    // What the threads use. A forked process has none of its parent's threads, and leaks this.
    struct Shared {
        Shared(const Network<P>& network, int count);
        ~Shared();  // ends the threads
        void run(Worker& worker);
        void follow(Worker& worker, std::uint64_t order);
        bool reaches_back(const Worker& worker, int layer, std::uint64_t t) const;

        const Network<P>& network;
        Counter layers_done;  // written by main, summed over all samples
        std::atomic<bool> closed{false};
        std::vector<std::unique_ptr<Worker>> workers;
    };

    void measure();
    void give_orders(std::uint64_t t);
    void stop(Worker& worker);
    bool ready(Worker& worker, const Counter& counter, std::uint64_t least, int turns);
    Sum* past(int layer, std::uint64_t t);
    void send(int layer, std::uint64_t t);

    const Network<P>& network_;
    Memory<P>& memory_;
    std::unique_ptr<Shared> shared_;
    Split split_;
    int process_;                          // that started the threads
    int past_turns_ = 1, skip_turns_ = 1;  // of a spin loop, as long as a worker's work for a layer and for its tiles
    std::uint64_t next_ = NONE;            // the sample after the last one
    AlignedVector<Sum> past_sums_;         // [L][2G], computed by main
};

// The number of workers, up to `most`, with which a stream of the network is fastest on this machine now. Takes some 30
// milliseconds for each number.
template <class P>
int fastest_workers(const Network<P>& network, int most);

extern template class RealTimePipeline<Float32>;
extern template class RealTimePipeline<Int8>;
extern template int fastest_workers(const Network<Float32>&, int);
extern template int fastest_workers(const Network<Int8>&, int);
extern template std::unique_ptr<ParallelStep> make_parallel_step(const Network<Float32>&, Memory<Float32>&, int);
extern template std::unique_ptr<ParallelStep> make_parallel_step(const Network<Int8>&, Memory<Int8>&, int);

}  // namespace wavenet
