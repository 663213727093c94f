#include "engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <stdexcept>

#include "outputs.h"
#include "split.h"
#include "state.h"
#include "step.h"
#include "threads.h"

namespace wavenet {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double LOOK_SECONDS = 0.005;       // between looks at the clock and for Ctrl-C
constexpr double BATCH_LOOK_SECONDS = 0.02;  // the same where threads must meet at every look
constexpr std::size_t FIRST_LOOK = 1;        // samples: in a large batch a few take seconds

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A few streams that advance together.
template <class P>
struct Streams {
    Streams(const Config& config, int count)
        : queues(std::make_shared<Queues<P>>(config, count)),
          scratch(std::make_shared<Scratch<P>>(config, count)),
          sampler(config.outputs),
          linear_sampler(config.output, config.parts) {}
    std::shared_ptr<Queues<P>> queues;  // shared with helpers
    std::shared_ptr<Scratch<P>> scratch;
    Sampler sampler;
    LinearSampler linear_sampler;
};

// Holds a state for one caller. Throws std::runtime_error if another has it.
class Busy {
public:
    explicit Busy(std::atomic<bool>& busy) : busy_(busy) {
        if (busy_.exchange(true)) throw std::runtime_error("another thread is advancing this state");
    }
    ~Busy() { busy_ = false; }
    Busy(const Busy&) = delete;

private:
    std::atomic<bool>& busy_;
};

template <class P>
class StateOf : public State {
public:
    StateOf(const void* owner, const Config& config, int streams, int together) : owner(owner), config_(config) {
        for (int first = 0; first < streams; first += together)
            groups.emplace_back(config, std::min(together, streams - first));
    }
    std::shared_ptr<State> copy() const override {
        const Busy held(busy);
        auto other = std::make_shared<StateOf>(owner, config_, 0, 1);
        for (const Streams<P>& group : groups) {
            other->groups.emplace_back(config_, group.queues->streams);
            other->groups.back().queues = std::make_shared<Queues<P>>(*group.queues);
        }
        return other;
    }
    std::uint64_t position() const override {
        const Busy held(busy);
        return groups[0].queues->position;
    }
    void last_codes(std::int64_t* codes) const override {
        const Busy held(busy);
        for (const Streams<P>& group : groups)
            codes = std::copy(group.queues->codes.begin(), group.queues->codes.end(), codes);
    }

    const void* const owner;
    std::vector<Streams<P>> groups;
    mutable std::atomic<bool> busy{false};

private:
    const Config& config_;
};

// Samples [from, to) of one group, whose first stream is row `first` of the request.
template <class P>
void advance(const Step<P>& step, const Kernels& kernels, const Config& config, Streams<P>& group,
             const Request& request, std::size_t first, std::size_t from, std::size_t to, Split<P>* split) {
    Queues<P>& queues = *group.queues;
    Scratch<P>& scratch = *group.scratch;
    const int layers = config.layers(), streams = queues.streams;
    const std::size_t sums = std::size_t(streams) * 2 * config.gate_width();
    for (std::size_t i = from; i < to; ++i) {
        const std::uint64_t t = queues.position;
        step.listen(queues, scratch, request.told, int(first), request.offset + i);
        if (split) {
            split->sample(t);
        } else {
            for (int layer = 0; layer < layers; ++layer) step.past(queues, &scratch.past[layer * sums], layer, t);
            step.embed(queues, scratch, t);
            for (int layer = 0; layer < layers; ++layer)
                step.layer(queues, scratch, &scratch.past[layer * sums], layer, t);
            // several streams: layer by layer, so that the weights stay in the nearest cache for all of them
            const int together = streams == 1 ? layers : 1;
            for (int layer = 0; request.predict() && layer < layers; layer += together)
                step.skip(streams, scratch.z.data(), scratch.skip.data(), 0, config.skip_tiles(), layer,
                          layer + together);
        }
        ++queues.position;
        if (request.predict()) step.head(queues, scratch);
        for (int s = 0; s < streams; ++s) {
            const float* logits = &scratch.logits[std::size_t(s) * config.output_width()];
            const std::size_t at = (first + s) * request.length + request.first + i;
            if (request.logits) std::copy(logits, logits + config.outputs, request.logits + at * config.outputs);
            if (request.coins) {
                const double coin = request.coins[at];
                queues.codes[s] = config.output == Output::MU_LAW
                                      ? group.sampler.draw(kernels, logits, coin, request.sampling)
                                      : group.linear_sampler.draw(logits, coin, request.sampling);
                request.drawn[at] = queues.codes[s];
            } else {
                queues.codes[s] = request.given[at];
            }
        }
    }
}

// Groups of streams, each advanced by whichever thread comes first.
class Groups : public Job {
public:
    using Advance = std::function<void(std::size_t group)>;
    Groups(std::size_t count, Advance advance) : count_(count), advance_(std::move(advance)) {}
    void run(int) override { work(); }
    void work() {
        for (std::size_t group; (group = next_.fetch_add(1)) < count_;) {
            advance_(group);
            const std::lock_guard lock(mutex_);
            if (++done_ == count_) all_done_.notify_all();
        }
    }
    void wait() {
        std::unique_lock lock(mutex_);
        all_done_.wait(lock, [&] { return done_ == count_; });
    }

private:
    const std::size_t count_;
    const Advance advance_;
    std::atomic<std::size_t> next_{0};
    std::mutex mutex_;
    std::condition_variable all_done_;
    std::size_t done_ = 0;
};

// How many helpers are the fastest here and now, by measuring: each number is tried, and tried again from time to time,
// since other programs come and go. The sound is the same whatever is chosen.
class Chooser {
public:
    explicit Chooser(int helpers) : seconds_(helpers + 1, 0.0) {}

    int helpers() {
        const std::lock_guard lock(mutex_);
        return chosen_;
    }
    // Longest time that a sample may take with nobody helping; 0 while it is not known.
    double patience() {
        const std::lock_guard lock(mutex_);
        return seconds_[0];
    }
    // So many samples took so long with `helpers` of them.
    void took(int helpers, std::size_t samples, double seconds) {
        const std::lock_guard lock(mutex_);
        if (helpers != chosen_) return;  // another call has changed it meanwhile
        samples_ += samples;
        spent_ += seconds;
        if (spent_ < LEAST_SECONDS) return;
        double& known = seconds_[helpers];
        const double each = spent_ / double(samples_);
        // a moment in which the system had other things to do says little
        known = known == 0 ? each : known + 0.3 * (std::min(each, 2 * known) - known);
        samples_ = 0;
        spent_ = 0;
        chosen_ = next();
    }

private:
    int next() {
        for (std::size_t helpers = 0; helpers < seconds_.size(); ++helpers)
            if (seconds_[helpers] == 0) return int(helpers);
        const std::size_t best = std::min_element(seconds_.begin(), seconds_.end()) - seconds_.begin();
        if (seconds_.size() == 1) return 0;
        if (other_ == best) other_ = (other_ + 1) % seconds_.size();
        const double slower = seconds_[other_] / seconds_[best];  // the dearer a trial is, the rarer
        if (++since_other_ < std::min(OFTEN * slower * slower * slower, SELDOM)) return int(best);
        since_other_ = 0;
        const std::size_t other = other_;
        other_ = (other_ + 1) % seconds_.size();
        return int(other);
    }

    static constexpr double LEAST_SECONDS = 0.002;     // in a figure: helpers need a while to wake up
    static constexpr double OFTEN = 12, SELDOM = 400;  // figures between trials of another number

    std::mutex mutex_;
    std::vector<double> seconds_;  // for one sample, 0: not known yet
    int chosen_ = 0;
    std::size_t samples_ = 0;  // of the figure that is being made
    double spent_ = 0;
    std::size_t other_ = 0;  // the next one to be tried
    int since_other_ = 0;
};

// Main's share of the skip rows, so that it and the helpers are done at the same time: of the work W = past + skip that
// can be given away, main keeps x besides its own M = now + residual + head, where M + x = (W - x) / helpers.
Plan plan_of(const Config& c, int helpers) {
    if (!helpers) return {};
    const double layers = c.layers(), skip = double(c.skip_width()) * c.all_gates_width();
    const double now = 2.0 * c.gate_width() * c.residual_width() * layers, past = now * c.past_taps();
    const double residual = double(c.residual_width()) * c.gate_width() * (layers - 1);
    const double head = double(c.head_width()) * (c.skip_width() + c.output_width());
    constexpr double NONLINEAR = 1.2;  // gates, the draw, and the time that words take between cores
    const double kept = (past + skip - helpers * NONLINEAR * (now + residual + head)) / (1 + helpers);
    const int tiles = int(kept / (skip / c.skip_tiles()));
    return {helpers, std::clamp(tiles, 0, c.skip_tiles())};
}

template <class P>
class EngineOf : public Engine {
public:
    EngineOf(const Config& config, const std::function<const float*(const std::string&)>& tensor, int threads)
        : config_(config),
          kernels_(chosen_kernels()),
          weights_(config, tensor),
          step_(weights_, kernels_),
          chooser_(threads - 1),
          crew_(threads - 1) {}

    std::shared_ptr<State> new_state(int streams) const override {
        const int threads = crew_.helpers() + 1;
        return std::make_shared<StateOf<P>>(this, config_, streams,
                                            std::min(MOST_STREAMS, (streams + threads - 1) / threads));
    }

    void run(State& any, const Request& request, const std::function<bool()>& stop) override {
        auto* state = dynamic_cast<StateOf<P>*>(&any);
        if (!state || state->owner != this) throw std::invalid_argument("this state belongs to another engine");
        check_told(*state, request);
        const Busy held(state->busy);
        const bool helped = crew_.take();
        struct Release {
            Crew* crew;
            ~Release() {
                if (crew) crew->give();
            }
        } release{helped ? &crew_ : nullptr};
        if (helped && state->groups.size() > 1) return run_groups(*state, request, stop);
        if (helped && request.predict() && state->groups[0].queues->streams == 1)
            return run_split(*state, request, stop);
        return run_alone(*state, request, stop);
    }

    double peak() const override {
        constexpr int TRIALS = 40, ROUNDS = 2000;  // a millisecond each: some run undisturbed
        double best = 0;
        for (int trial = 0; trial < TRIALS; ++trial) {
            const auto start = Clock::now();
            const double count = P::arithmetic(kernels_).multiply_adds(ROUNDS);
            best = std::max(best, count / seconds_since(start));
        }
        return best;
    }

    const char* kernels() const override { return kernels_.name; }
    const Config& config() const override { return config_; }

private:
    void check_told(const StateOf<P>& state, const Request& request) const {
        int streams = 0;
        for (const Streams<P>& group : state.groups) streams += group.queues->streams;
        const Told* const told = request.told;
        if (bool(told) != config_.conditioned ||
            (told && (told->streams != streams || !told->reaches(request.offset + request.samples))))
            throw std::invalid_argument("what is told is for another network, other streams or other samples");
    }

    void run_alone(StateOf<P>& state, const Request& request, const std::function<bool()>& stop) {
        in_looks(request.samples, LOOK_SECONDS, stop, [&](std::size_t from, std::size_t to) {
            std::size_t first = 0;
            for (Streams<P>& group : state.groups) {
                advance<P>(step_, kernels_, config_, group, request, first, from, to, nullptr);
                first += group.queues->streams;
            }
        });
    }

    void run_groups(StateOf<P>& state, const Request& request, const std::function<bool()>& stop) {
        in_looks(request.samples, BATCH_LOOK_SECONDS, stop, [&](std::size_t from, std::size_t to) {
            const std::size_t together = state.groups[0].queues->streams;  // in all groups but the last
            auto job = std::make_shared<Groups>(state.groups.size(), [&](std::size_t group) {
                advance<P>(step_, kernels_, config_, state.groups[group], request, group * together, from, to, nullptr);
            });
            crew_.post(job);
            job->work();
            job->wait();
        });
    }

    void run_split(StateOf<P>& state, const Request& request, const std::function<bool()>& stop) {
        Streams<P>& group = state.groups[0];
        Split<P> split(std::make_shared<Following<P>>(step_, config_, group.queues, group.scratch, crew_.helpers()),
                       crew_);
        in_looks(request.samples, LOOK_SECONDS, stop, [&](std::size_t from, std::size_t to) {
            const int helpers = chooser_.helpers();
            const std::chrono::duration<double> patience(std::max(50e-6, chooser_.patience()));
            split.use(plan_of(config_, helpers), std::chrono::duration_cast<Clock::duration>(patience));
            const auto start = Clock::now();
            advance<P>(step_, kernels_, config_, group, request, 0, from, to, &split);
            chooser_.took(helpers, to - from, seconds_since(start));
        });
    }

    // Does n samples in pieces of about so many seconds, until `stop` says true.
    template <class Piece>
    static void in_looks(std::size_t samples, double seconds, const std::function<bool()>& stop, Piece piece) {
        std::size_t done = 0, look = FIRST_LOOK;
        while (done < samples) {
            const auto start = Clock::now();
            const std::size_t to = std::min(samples, done + look);
            piece(done, to);
            const double each = seconds_since(start) / double(to - done);
            look = std::clamp<std::size_t>(std::size_t(seconds / std::max(each, 1e-9)), 1, 4 * look);
            done = to;
            if (stop()) break;
        }
    }

    const Config config_;
    const Kernels& kernels_;
    const Weights<P> weights_;
    const Step<P> step_;
    Chooser chooser_;
    Crew crew_;  // last: its threads end before what they use
};

}  // namespace

std::unique_ptr<Engine> make_engine(const Config& config, const std::function<const float*(const std::string&)>& tensor,
                                    const std::string& precision, int threads) {
    if (precision == Float32::NAME) return std::make_unique<EngineOf<Float32>>(config, tensor, threads);
    if (precision == Int8::NAME) return std::make_unique<EngineOf<Int8>>(config, tensor, threads);
    throw std::invalid_argument("precision " + precision + ": the native engine has f32 and int8");
}

}  // namespace wavenet
