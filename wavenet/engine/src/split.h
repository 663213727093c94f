// One stream on several threads, split by what depends on what.
//
// The chain that cannot be split is now + residual + gate of layer after layer, the head and the draw: less than half of
// the work. A helper takes the rest off it. At sample t it first computes what the past adds to the layers' gates, all
// of which is known when sample t - 1 is done, and then follows the layers of sample t, adding their z to the skip sums:
//
//     main      | layer 0 | layer 1 | ... | layer L-1 | its own skip rows | head, draw | layer 0 | ...
//                  ^ past 0   ^ past 1       v z          ^ other skip rows
//     helper    | past 0, 1, ... of t | skip of layers 0, 1, ... as they come | past 0, 1, ... of t + 1 | ...
//
// They meet through counters, each written by one thread only; no locks, no barriers.
//
// A helper can be put aside by the system at any moment, for milliseconds. So it writes into buffers of its own, and
// everything that it makes, the main thread could make as well, with the same bits. Where a result is late, main makes
// it itself, goes on alone, and takes the helper back once that has answered. What a helper computes after that, from
// buffers that change under its hands, nobody reads.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "state.h"
#include "step.h"
#include "threads.h"

namespace wavenet {

// How a sample is shared: by so many helpers, main keeping so many tiles of the skip rows. No helpers: alone.
struct Plan {
    int helpers = 0;
    int own_tiles = 0;
};

// The helpers' side, one for each call.
template <class P>
class Following : public Job {
public:
    Following(const Step<P>& step, const Config& config, std::shared_ptr<Queues<P>> queues,
              std::shared_ptr<Scratch<P>> scratch, int helpers);
    void run(int helper) override;

    static constexpr std::uint64_t GONE = ~std::uint64_t(0);
    struct Helper {
        Counter order;   // of main; odd: follow, from sample `first` on; even: stand by
        Counter answer;  // of the helper: the order by which it stands by, or GONE
        Counter past;    // of the helper: layers up to which its pasts are done, counted through all samples
        Counter skip;    // of the helper: samples whose skip sums are done
        // these, and the two counters, main changes while the helper stands by
        std::uint64_t first = 0;
        int share = 0, shares = 1;     // it takes the pasts of every layer that leaves `share` over by `shares`
        int tile = 0, last_tile = 0;  // and these tiles of the skip rows
        // what it makes
        Line<typename P::Sum> past_sums;  // [L][2G]
        Line<typename P::Sum> skip_sums;  // [S]
    };

    const Step<P>& step;
    const Config& config;
    const std::shared_ptr<Queues<P>> queues;
    const std::shared_ptr<Scratch<P>> scratch;
    Counter made;  // of main: layers done, counted through all samples
    std::atomic<int> processor{-1};  // of main
    std::atomic<bool> closed{false};
    std::vector<Helper> helpers;

private:
    void follow(Helper& own, std::uint64_t order);
};

// Main's side.
template <class P>
class Split {
public:
    Split(std::shared_ptr<Following<P>> job, Crew& crew);
    ~Split();

    // Share the coming samples like this, waiting for a late result for so long at most.
    void use(Plan plan, Spin::Clock::duration patience);
    // Sample t, up to its skip sums, which are then in the scratch.
    void sample(std::uint64_t t);

private:
    using Helper = typename Following<P>::Helper;
    void stand_by(int helper);
    void invite(std::uint64_t t);
    typename P::Sum* past(int layer, std::uint64_t t);
    // Whether the helper's counter gets as far as `least` in time; else it is told to stand by.
    bool reaches(int helper, const Counter& counter, std::uint64_t least);

    const std::shared_ptr<Following<P>> job_;
    Crew& crew_;
    Plan plan_;
    Spin::Clock::duration patience_{};
    std::vector<bool> following_;
};

extern template class Following<Float32>;
extern template class Following<Int8>;
extern template class Split<Float32>;
extern template class Split<Int8>;

}  // namespace wavenet
