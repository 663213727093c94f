#include "split.h"

#include <algorithm>

namespace wavenet {

template <class P>
Following<P>::Following(const Step<P>& step, const Config& config, std::shared_ptr<Queues<P>> queues,
                        std::shared_ptr<Scratch<P>> scratch, int count)
    : step(step), config(config), queues(std::move(queues)), scratch(std::move(scratch)), helpers(count) {
    for (Helper& helper : helpers) {
        helper.answer.set(GONE);
        helper.past_sums.resize(std::size_t(config.layers()) * 2 * config.gate_width());
        helper.skip_sums.resize(config.skip_width());
    }
}

template <class P>
void Following<P>::run(int helper) {
    Helper& own = helpers[helper];
    Spin idle;
    while (!closed.load(std::memory_order_acquire)) {
        const std::uint64_t order = own.order.get();
        if (order % 2) {
            follow(own, order);
            idle = Spin();
            continue;
        }
        make_way(processor.load(std::memory_order_relaxed));
        own.answer.set(order);
        if (!idle.again(LINGER)) break;
    }
    own.answer.set(GONE);
}

template <class P>
void Following<P>::follow(Helper& own, std::uint64_t order) {
    const int layers = config.layers(), gates = config.gate_width();
    for (std::uint64_t t = own.first;; ++t) {
        // The queues hold all of sample t - 1: this thread has seen its last layer, or main has before it invited.
        for (int layer = own.share; layer < layers; layer += own.shares) {
            if (own.order.get() != order) return;
            step.past(*queues, &own.past_sums[std::size_t(layer) * 2 * gates], layer, t);
            own.past.set(t * layers + layer + 1);
        }
        for (int done = 0; done < layers;) {
            int there = 0;
            for (Spin spin; (there = int(std::min<std::uint64_t>(made.get() - t * layers, layers))) <= done;
                 spin.patiently())
                if (own.order.get() != order) return;
            if (own.tile < own.last_tile)
                step.skip(1, scratch->z.data(), own.skip_sums.data(), own.tile, own.last_tile, done, there);
            done = there;
        }
        own.skip.set(t + 1);
    }
}

template <class P>
Split<P>::Split(std::shared_ptr<Following<P>> job, Crew& crew)
    : job_(std::move(job)), crew_(crew), following_(job_->helpers.size(), false) {
    job_->made.set(job_->queues->position * job_->config.layers());
}

template <class P>
Split<P>::~Split() {
    for (std::size_t helper = 0; helper < following_.size(); ++helper) stand_by(int(helper));
    job_->closed.store(true, std::memory_order_release);
}

template <class P>
void Split<P>::stand_by(int helper) {
    if (!following_[helper]) return;
    following_[helper] = false;
    Counter& order = job_->helpers[helper].order;
    order.set(order.get() + 1);
}

template <class P>
void Split<P>::use(Plan plan, Spin::Clock::duration patience) {
    patience_ = patience;
    if (plan.helpers != plan_.helpers || plan.own_tiles != plan_.own_tiles)
        for (std::size_t helper = 0; helper < following_.size(); ++helper) stand_by(int(helper));
    plan_ = plan;
    job_->processor.store(current_processor(), std::memory_order_relaxed);
    for (int helper = 0; helper < plan_.helpers; ++helper)
        if (job_->helpers[helper].answer.get() == Following<P>::GONE) {
            crew_.post(job_);
            break;
        }
}

// Lets every helper follow that stands by as it was last told to.
template <class P>
void Split<P>::invite(std::uint64_t t) {
    const int shared = job_->config.skip_tiles() - plan_.own_tiles;
    for (int index = 0; index < plan_.helpers; ++index) {
        Helper& helper = job_->helpers[index];
        if (following_[index] || helper.answer.get() != helper.order.get()) continue;
        helper.first = t;
        helper.share = index;
        helper.shares = plan_.helpers;
        helper.tile = plan_.own_tiles + shared * index / plan_.helpers;
        helper.last_tile = plan_.own_tiles + shared * (index + 1) / plan_.helpers;
        helper.past.set(0);  // it may already have been ahead, in sums that it will now make again
        helper.skip.set(0);
        following_[index] = true;
        helper.order.set(helper.order.get() + 1);
    }
}

template <class P>
bool Split<P>::reaches(int helper, const Counter& counter, std::uint64_t least) {
    if (!following_[helper]) return false;
    for (Spin spin; counter.get() < least;)
        if (!spin.again(patience_)) {
            stand_by(helper);
            return false;
        }
    return true;
}

// What the past adds to a layer: the helper's, or made here.
template <class P>
typename P::Sum* Split<P>::past(int layer, std::uint64_t t) {
    const std::size_t at = std::size_t(layer) * 2 * job_->config.gate_width();
    if (plan_.helpers) {
        const int index = layer % plan_.helpers;
        Helper& helper = job_->helpers[index];
        if (reaches(index, helper.past, t * job_->config.layers() + layer + 1)) return &helper.past_sums[at];
    }
    job_->step.past(*job_->queues, &job_->scratch->past[at], layer, t);
    return &job_->scratch->past[at];
}

template <class P>
void Split<P>::sample(std::uint64_t t) {
    const Step<P>& step = job_->step;
    Queues<P>& queues = *job_->queues;
    Scratch<P>& scratch = *job_->scratch;
    const int layers = job_->config.layers();
    const int tiles = job_->config.skip_tiles();

    invite(t);
    typename P::Sum* sums = past(0, t);
    step.embed(queues, scratch, t);
    for (int layer = 0; layer < layers; ++layer) {
        // before this layer makes the next one's input, which may take the place of that one's oldest
        typename P::Sum* next = layer + 1 < layers ? past(layer + 1, t) : nullptr;
        step.layer(queues, scratch, sums, layer, t);
        job_->made.set(t * layers + layer + 1);
        sums = next;
    }
    if (!plan_.helpers) return step.skip(1, scratch.z.data(), scratch.skip.data(), 0, tiles, 0, layers);
    if (plan_.own_tiles) step.skip(1, scratch.z.data(), scratch.skip.data(), 0, plan_.own_tiles, 0, layers);
    for (int index = 0; index < plan_.helpers; ++index) {
        const Helper& helper = job_->helpers[index];
        const int shared = tiles - plan_.own_tiles;
        const int tile = plan_.own_tiles + shared * index / plan_.helpers;
        const int last = plan_.own_tiles + shared * (index + 1) / plan_.helpers;
        if (tile == last) continue;
        if (reaches(index, helper.skip, t + 1))
            std::copy(&helper.skip_sums[tile * TILE],
                      helper.skip_sums.data() + std::min<std::size_t>(last * TILE, helper.skip_sums.size()),
                      &scratch.skip[tile * TILE]);
        else
            step.skip(1, scratch.z.data(), scratch.skip.data(), tile, last, 0, layers);
    }
}

template class Following<Float32>;
template class Following<Int8>;
template class Split<Float32>;
template class Split<Int8>;

}  // namespace wavenet
