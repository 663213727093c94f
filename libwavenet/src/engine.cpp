#include "engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "groups_job.h"
#include "network.h"
#include "pipeline.h"
#include "spin.h"
#include "stream_group.h"
#include "thread_pool.h"
#include "thread_tuner.h"

namespace wavenet {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double SLICE_SECONDS = 0.005;        // between calls of `stop`, and measurements of the thread tuner
constexpr double GROUPS_SLICE_SECONDS = 0.02;  // the same if threads wait for each other after every slice
constexpr std::size_t FIRST_SLICE = 1;         // samples: in a large batch, a few take seconds
constexpr double MIN_PATIENCE = 50e-6;         // seconds to wait for a pipeline worker at least

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

enum class Use { NONE, READING, ADVANCING };

// Reserves a state for one caller. Waits for a thread that reads the state, which is short; throws
// std::runtime_error if another thread is advancing it.
class Reservation {
public:
    Reservation(std::atomic<Use>& use, Use wanted) : use_(use) {
        Spin spin;
        for (Use found = Use::NONE; !use_.compare_exchange_strong(found, wanted); found = Use::NONE) {
            if (found == Use::ADVANCING) throw std::runtime_error("another thread is advancing this state");
            spin.patiently();
        }
    }
    ~Reservation() { use_ = Use::NONE; }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

private:
    std::atomic<Use>& use_;
};

// Reserves a thread pool for one call, if it is free.
class Helpers {
public:
    explicit Helpers(ThreadPool& pool) : pool_(pool), acquired_(pool.acquire()) {}
    ~Helpers() {
        if (acquired_) pool_.release();
    }
    Helpers(const Helpers&) = delete;
    Helpers& operator=(const Helpers&) = delete;
    explicit operator bool() const { return acquired_; }

private:
    ThreadPool& pool_;
    const bool acquired_;
};

template <class P>
class StateOf : public State {
public:
    StateOf(std::shared_ptr<const Network<P>> network, int streams, int group_size)
        : network(std::move(network)), streams(streams) {
        for (int first = 0; first < streams; first += group_size)
            groups.emplace_back(this->network->config(), std::min(group_size, streams - first));
    }
    explicit StateOf(const StateOf& other) : network(other.network), streams(other.streams) {
        for (const StreamGroup<P>& group : other.groups) groups.emplace_back(network->config(), *group.memory.queues);
    }
    std::shared_ptr<State> copy() const override {
        const Reservation reservation(use, Use::READING);
        return std::make_shared<StateOf>(*this);
    }
    std::uint64_t position() const override {
        const Reservation reservation(use, Use::READING);
        return groups[0].memory.queues->position;
    }
    void last_codes(std::int64_t* codes) const override {
        const Reservation reservation(use, Use::READING);
        for (const StreamGroup<P>& group : groups) {
            const std::vector<std::int64_t>& last = group.memory.queues->codes;
            codes = std::copy(last.begin(), last.end(), codes);
        }
    }

    void assign(const State& any) override {
        auto* const other = dynamic_cast<const StateOf*>(&any);
        if (!other || other->network != network || other->streams != streams)
            throw std::invalid_argument("this state belongs to another engine or to another number of streams");
        if (other == this) return;
        const Reservation reading(other->use, Use::READING), advancing(use, Use::ADVANCING);
        for (std::size_t group = 0; group < groups.size(); ++group)
            groups[group].memory.queues->assign(*other->groups[group].memory.queues);
    }

    const std::shared_ptr<const Network<P>> network;
    const int streams;
    std::vector<StreamGroup<P>> groups;
    mutable std::atomic<Use> use{Use::NONE};
};

template <class P>
class EngineOf : public Engine {
public:
    EngineOf(const Config& config, const Tensors& tensors, int threads)
        : network_(std::make_shared<Network<P>>(config, tensors)), tuner_(threads - 1), pool_(threads - 1) {}

    std::shared_ptr<State> new_state(int streams) const override {
        const int threads = pool_.helpers() + 1;
        return std::make_shared<StateOf<P>>(network_, streams,
                                            std::min(MAX_STREAMS, (streams + threads - 1) / threads));
    }

    void run(State& any, const Request& request, const std::function<bool()>& stop) override {
        auto* const state = dynamic_cast<StateOf<P>*>(&any);
        if (!state || state->network != network_) throw std::invalid_argument("this state belongs to another engine");
        check_conditioning(*state, request);
        const Reservation reservation(state->use, Use::ADVANCING);
        const Helpers helpers(pool_);
        if (helpers && state->groups.size() > 1) return run_groups(*state, request, stop);
        if (helpers && request.predicts() && state->streams == 1) return run_pipeline(*state, request, stop);
        return run_alone(*state, request, stop);
    }

    double peak() const override {
        constexpr int TRIALS = 40, ROUNDS = 2000;  // a millisecond each, so that some run without interruption
        double best = 0;
        for (int trial = 0; trial < TRIALS; ++trial) {
            const auto start = Clock::now();
            const double count = P::arithmetic(network_->kernels).multiply_adds(ROUNDS);
            best = std::max(best, count / seconds_since(start));
        }
        return best;
    }

    const char* kernels() const override { return network_->kernels.name; }
    const Config& config() const override { return network_->config(); }

private:
    void check_conditioning(const StateOf<P>& state, const Request& request) const {
        const Conditioning* const conditioning = request.conditioning;
        if (bool(conditioning) != config().conditioned ||
            (conditioning && !conditioning->fits(state.streams, request.offset + request.samples)))
            throw std::invalid_argument(
                "the conditioning frames are for another network, other streams or other samples");
    }

    void run_alone(StateOf<P>& state, const Request& request, const std::function<bool()>& stop) {
        in_slices(request.samples, SLICE_SECONDS, stop, [&](std::size_t from, std::size_t to) {
            std::size_t first = 0;
            for (StreamGroup<P>& group : state.groups) {
                advance<P>(*network_, group, request, first, from, to, nullptr);
                first += group.streams();
            }
        });
    }

    void run_groups(StateOf<P>& state, const Request& request, const std::function<bool()>& stop) {
        in_slices(request.samples, GROUPS_SLICE_SECONDS, stop, [&](std::size_t from, std::size_t to) {
            const std::size_t group_size = state.groups[0].streams();  // of all groups but the last
            auto job = std::make_shared<GroupsJob>(state.groups.size(), [&](std::size_t group) {
                advance<P>(*network_, state.groups[group], request, group * group_size, from, to, nullptr);
            });
            pool_.post(job);
            job->work();
            job->wait();
        });
    }

    void run_pipeline(StateOf<P>& state, const Request& request, const std::function<bool()>& stop) {
        StreamGroup<P>& group = state.groups[0];
        Pipeline<P> pipeline(*network_, group.memory, pool_);
        in_slices(request.samples, SLICE_SECONDS, stop, [&](std::size_t from, std::size_t to) {
            const int helpers = tuner_.helpers();
            const std::chrono::duration<double> patience(std::max(MIN_PATIENCE, tuner_.seconds_alone()));
            pipeline.use(split_for(config(), helpers), std::chrono::duration_cast<Clock::duration>(patience));
            const auto start = Clock::now();
            advance<P>(*network_, group, request, 0, from, to, &pipeline);
            tuner_.record(helpers, to - from, seconds_since(start));
        });
    }

    // Computes n samples in slices of about this many seconds, until `stop` returns true.
    template <class Slice>
    static void in_slices(std::size_t samples, double seconds, const std::function<bool()>& stop, Slice slice) {
        std::size_t done = 0, size = FIRST_SLICE;
        while (done < samples) {
            const auto start = Clock::now();
            const std::size_t to = std::min(samples, done + size);
            slice(done, to);
            const double each = seconds_since(start) / double(to - done);
            size = std::clamp<std::size_t>(std::size_t(seconds / std::max(each, 1e-9)), 1, 4 * size);
            done = to;
            if (stop()) break;
        }
    }

    const std::shared_ptr<const Network<P>> network_;
    ThreadTuner tuner_;
    ThreadPool pool_;  // last: its threads end before what they use
};

}  // namespace

std::unique_ptr<Engine> make_engine(const Config& config, const Tensors& tensors, const std::string& precision,
                                    int threads) {
    if (precision == Float32::NAME) return std::make_unique<EngineOf<Float32>>(config, tensors, threads);
    if (precision == Int8::NAME) return std::make_unique<EngineOf<Int8>>(config, tensors, threads);
    throw std::invalid_argument("precision " + precision + ": the native engine has f32 and int8");
}

}  // namespace wavenet
