// Counts allocations, locks and system calls of a thread that generates in real time, alone and with workers: there must
// be none. Exits with 1 if there are some, with 77 if the system does not let a process count its system calls.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "random_network.h"
#include "realtime_counters.h"
#include "realtime_pipeline.h"
#include "stream_group.h"

using namespace wavenet;

namespace {

constexpr int UNSUPPORTED = 77;
constexpr int BLOCKS = 5;

// Waits without a system call, long enough for the workers to fall asleep.
void rest() {
    for (int i = 0; i < 100000; ++i) wavenet::pause();
}

// In a process of its own, as system calls remain forbidden.
template <class P>
[[noreturn]] void generate(Output output, bool conditioned, int order, int workers) {
    Case network(output, conditioned, order);
    const auto shared = network.network<P>();
    const auto frames = network.conditioning(1);
    StreamGroup<P> group(shared->config(), 1);
    RealTimePipeline<P> pipeline(*shared, group.memory, workers);
    std::vector<std::int64_t> codes(SAMPLES);
    const auto process = [&](int block, Sampling sampling) {
        Request request = Case::request(frames.get(), block * SAMPLES / BLOCKS, SAMPLES / BLOCKS);
        request.uniforms = network.uniforms().data();
        request.drawn = codes.data();
        request.sampling = sampling;
        advance<P>(*shared, group, request, 0, 0, request.samples, &pipeline);
        rest();
    };

    const bool counted = forbid();
    for (int block = 0; block < BLOCKS; ++block) {
        Sampling sampling;
        sampling.temperature = block == 1 ? 0 : 0.9;
        if (output == Output::MU_LAW) sampling.top_k = block == 2 ? 20 : 0;
        if (block > 2) sampling.top_p = 0.9;
        process(block, sampling);
    }
    const Violations found = violations();

    const bool right = !found.allocations && !found.locks && !found.system_calls;
    if (!right)
        std::fprintf(stderr, "%s, output %d, %d threads: %ld allocations, %ld locks, %ld system calls (last: %d)\n",
                     P::NAME, int(output), workers + 1, found.allocations, found.locks, found.system_calls,
                     found.system_call);
    _exit(counted ? !right : UNSUPPORTED);
}

// That the counters count, or the test would prove nothing.
[[noreturn]] void offend() {
    static std::mutex mutex;
    const bool counted = forbid();
    std::vector<int> memory(100);
    mutex.lock();
    mutex.unlock();
    (void)getppid();
    const Violations found = violations();
    _exit(!counted ? UNSUPPORTED : !(memory.size() && found.allocations && found.locks && found.system_calls));
}

template <class Function>
void in_child(Function function) {
    const pid_t child = fork();
    if (!child) function();
    int status = 0;
    waitpid(child, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (code) std::exit(code);
}

}  // namespace

int main() {
    in_child([] { offend(); });
    for (int workers : {0, 1}) {
        for (Output output : {Output::MU_LAW, Output::LOGISTIC, Output::GAUSSIAN})
            for (bool conditioned : {false, true}) {
                const int order = output == Output::GAUSSIAN ? 9 : 0;
                in_child([&] { generate<Float32>(output, conditioned, order, workers); });
                in_child([&] { generate<Int8>(output, conditioned, order, workers); });
            }
    }
}
