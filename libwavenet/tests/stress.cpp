// A program without Python that drives the engine through all kernels, precisions, outputs and numbers of threads, and
// compares the results with those of one thread. Made for sanitizers; see tests/sanitizers.sh. Exits with 1 for a wrong
// result.
#ifdef __linux__
#include <dirent.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "random_network.h"
#include "realtime_pipeline.h"
#include "stream_group.h"

using namespace wavenet;

namespace {

void check(bool right, const std::string& what) {
    if (right) return;
    std::printf("wrong: %s\n", what.c_str());
    std::exit(1);
}

// One stream with several threads, which suspend each other, and batches.
void same_for_any_threads(Case& network, const std::string& precision) {
    const auto alone = network.engine(precision, 1);
    const auto expected = network.generate(*alone, *alone->new_state(1), 1, SAMPLES);
    for (int threads : {2, 4}) {
        const auto engine = network.engine(precision, threads);
        for (int block : {1, 37, SAMPLES})
            check(network.generate(*engine, *engine->new_state(1), 1, block) == expected, "threads or blocks");
        for (int streams : {3, 17}) {
            const auto codes = network.generate(*engine, *engine->new_state(streams), streams, 100);
            for (std::size_t i = 0; i < codes.size(); ++i) check(codes[i] == expected[i % SAMPLES], "batch");
        }
    }
}

// One engine in several threads; a state that two threads want; a call that is stopped.
void calls_side_by_side(Case& network, const std::string& precision) {
    const auto engine = network.engine(precision, 2);
    const auto expected = network.generate(*engine, *engine->new_state(1), 1, SAMPLES);
    const auto shared = engine->new_state(1);
    std::atomic<int> refused{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i)
        threads.emplace_back([&] {
            check(network.generate(*engine, *engine->new_state(1), 1, 50) == expected, "side by side");
            try {
                (void)shared->copy()->position();
                network.generate(*engine, *shared, 1, SAMPLES);
            } catch (const std::runtime_error&) {
                ++refused;
            }
        });
    for (std::thread& thread : threads) thread.join();
    check(shared->position() == std::uint64_t(3 - refused) * SAMPLES, "a refused call advanced the state");

    const auto state = engine->new_state(1);
    const auto frames = network.conditioning(1);
    Request request = Case::request(frames.get(), 0, SAMPLES);
    const std::vector<std::int64_t> given(SAMPLES, 1);
    request.given = given.data();
    int asked = 0;
    engine->run(*state, request, [&] { return ++asked == 2; });
    check(state->position() > 0 && state->position() <= SAMPLES, "position after a stopped call");
}

// Copies continue like their original, and outlive it and its engine.
void copies(Case& network, const std::string& precision) {
    auto engine = network.engine(precision, 2);
    auto state = engine->new_state(1);
    for (int i = 0; i < 200; ++i) state = state->copy();
    const auto branch = state->copy();
    const auto codes = network.generate(*engine, *state, 1, 60);
    check(network.generate(*engine, *branch, 1, SAMPLES) == codes, "copy");
    engine.reset();
    state.reset();
    check(branch->copy()->position() == SAMPLES, "position of a copy");
    const auto other = network.engine(precision, 1);
    try {
        network.generate(*other, *branch, 1, SAMPLES);
        check(false, "another engine's state was accepted");
    } catch (const std::invalid_argument&) {}
}

// A state that continues as another one, in several groups.
void assignment(Case& network, const std::string& precision) {
    constexpr int STREAMS = 17;
    const auto engine = network.engine(precision, 2);
    const auto state = engine->new_state(STREAMS), other = engine->new_state(STREAMS);
    network.generate(*engine, *other, STREAMS, SAMPLES);
    state->assign(*other);
    check(state->position() == SAMPLES, "position of an assigned state");
    const auto expected = network.generate(*engine, *other, STREAMS, SAMPLES);
    check(network.generate(*engine, *state, STREAMS, SAMPLES) == expected, "an assigned state");
    try {
        state->assign(*engine->new_state(1));
        check(false, "a state of another number of streams was accepted");
    } catch (const std::invalid_argument&) {}
}

// A stream of a case that is played in real time.
template <class P>
class RealTimeCase {
public:
    explicit RealTimeCase(Case& network)
        : network_(network), shared_(network.network<P>()), frames_(network.conditioning(1)) {
        StreamGroup<P> alone(config(), 1);
        generate(alone, 0, SAMPLES / 2, nullptr);
        expected_ = codes_;
    }
    const Network<P>& network() const { return *shared_; }
    const Config& config() const { return shared_->config(); }

    // The samples from `first` on, of which some have muted layers, in blocks between which workers fall asleep.
    void generate(StreamGroup<P>& group, int first, int block, ParallelStep* parallel) {
        const bool muted[] = {false, true, false, false, true, false};
        for (; first < SAMPLES; first += block) {
            Request request = Case::request(frames_.get(), first, std::min(block, SAMPLES - first));
            request.uniforms = network_.uniforms().data();
            request.drawn = codes_.data();
            if (first >= SAMPLES / 2) request.muted = muted;
            advance<P>(*shared_, group, request, 0, 0, request.samples, parallel);
            if (parallel) std::this_thread::sleep_for(std::chrono::microseconds(first % 2 ? 100 : 3000));
        }
    }
    // The same as without workers, from the first sample on.
    void compare(StreamGroup<P>& group, int block, ParallelStep* parallel) {
        std::fill(codes_.begin(), codes_.end(), 0);
        group.memory.queues->assign(Queues<P>(config(), 1));
        generate(group, 0, block, parallel);
        check(codes_ == expected_, "real time");
    }
    // Fed without the workers up to the middle, which then join.
    void compare_primed(StreamGroup<P>& group, RealTimePipeline<P>& pipeline) {
        std::fill(codes_.begin(), codes_.end(), 0);
        group.memory.queues->assign(Queues<P>(config(), 1));
        Request request = Case::request(frames_.get(), 0, SAMPLES / 2);
        request.given = expected_.data();
        advance<P>(*shared_, group, request, 0, 0, SAMPLES / 2, nullptr);
        generate(group, SAMPLES / 2, 16, &pipeline);
        check(std::equal(codes_.begin() + SAMPLES / 2, codes_.end(), expected_.begin() + SAMPLES / 2), "primed");
    }

private:
    Case& network_;
    const std::unique_ptr<const Network<P>> shared_;
    const std::unique_ptr<ConditioningFrames> frames_;
    std::vector<std::int64_t> codes_ = std::vector<std::int64_t>(SAMPLES), expected_;
};

// Workers that fall asleep, that the system suspends, and that begin again at the same and at other samples.
template <class P>
void real_time(Case& network) {
    RealTimeCase<P> real(network);
    for (int workers : {0, 1, 2, 5}) {
        StreamGroup<P> group(real.config(), 1);
        RealTimePipeline<P> pipeline(real.network(), group.memory, workers);
        for (int block : {40, 5}) {
            real.compare(group, block, &pipeline);
            pipeline.restart();
        }
        real.compare_primed(group, pipeline);
    }
    StreamGroup<P> group(real.config(), 1);
    const auto measured = make_parallel_step(real.network(), group.memory, 0);
    real.compare(group, 40, measured.get());
    check(!make_parallel_step(real.network(), group.memory, 1), "one thread");
}

#ifdef __linux__
std::atomic<bool> suspended{false};
std::atomic<int> suspended_threads{0};

void suspend(int) {
    ++suspended_threads;
    while (suspended) usleep(500);
    --suspended_threads;
}

std::set<int> threads_of_process() {
    std::set<int> threads;
    DIR* const folder = opendir("/proc/self/task");
    while (const dirent* entry = readdir(folder))
        if (std::atoi(entry->d_name)) threads.insert(std::atoi(entry->d_name));
    closedir(folder);
    return threads;
}

// Workers that do not run at all for longer than the ring lasts.
template <class P>
void suspended_workers(Case& network) {
    constexpr int WORKERS = 2;
    signal(SIGUSR1, suspend);
    RealTimeCase<P> real(network);
    StreamGroup<P> group(real.config(), 1);
    const std::set<int> before = threads_of_process();
    RealTimePipeline<P> pipeline(real.network(), group.memory, WORKERS);
    const std::set<int> after = threads_of_process();
    for (int round = 0; round < 2; ++round) {
        real.compare(group, 16, &pipeline);
        suspended = true;
        for (int thread : after)
            if (!before.count(thread)) syscall(SYS_tgkill, getpid(), thread, SIGUSR1);
        while (suspended_threads < WORKERS) usleep(500);
        if (round) real.compare(group, 16, &pipeline);
        else real.generate(group, 0, 16, &pipeline);  // continues the last samples: the ring is filled
        suspended = false;
        while (suspended_threads) usleep(500);
        real.compare(group, 16, &pipeline);
    }
}
#endif

}  // namespace

// With an argument: only with the best kernels of this machine.
int main(int arguments, char**) {
    const char* names[8];
    const int sets = arguments > 1 ? std::min(1, available_kernels(names, 8)) : available_kernels(names, 8);
    for (int set = 0; set < sets; ++set) {
        setenv("WAVENET_KERNELS", names[set], 1);
        for (const char* precision : {"f32", "int8"}) {
            for (Output output : {Output::MU_LAW, Output::LOGISTIC, Output::GAUSSIAN})
                for (bool conditioned : {false, true}) {
                    Case network(output, conditioned, output == Output::GAUSSIAN ? 9 : 0);
                    same_for_any_threads(network, precision);
                    calls_side_by_side(network, precision);
                    copies(network, precision);
                    assignment(network, precision);
                    if (precision == std::string(Int8::NAME)) real_time<Int8>(network);
                    else real_time<Float32>(network);
#ifdef __linux__
                    if (precision == std::string(Int8::NAME)) suspended_workers<Int8>(network);
                    else suspended_workers<Float32>(network);
#endif
                }
            std::printf("%s %s: as with one thread\n", names[set], precision);
            std::fflush(stdout);
        }
    }
}
