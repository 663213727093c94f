// A program without Python that drives the engine through all kernels, precisions, outputs and numbers of threads, and
// compares the results with those of one thread. Made for sanitizers; see tests/sanitizers.sh. Exits with 1 for a wrong
// result.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"

using namespace wavenet;

namespace {

constexpr int SAMPLES = 160;
constexpr int FRAMES = 32 + 2;  // of a conditioning chunk, one more frame on either side included

void check(bool right, const std::string& what) {
    if (right) return;
    std::printf("wrong: %s\n", what.c_str());
    std::exit(1);
}

// Uniform in [0, 1), the same in every run.
struct Random {
    std::uint64_t state = 1;
    double operator()() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return double(state >> 11) / 9007199254740992.0;
    }
};

Config config_of(Output output, bool conditioned, int order) {
    Config config{};
    config.kernel_size = conditioned ? 3 : 2;
    config.residual = 17;
    config.gate = 20;
    config.skip = 70;
    config.head = 33;
    config.output = output;
    config.components = output == Output::LOGISTIC ? 3 : 1;
    config.prediction_order = order;
    const bool adaptive = order && !conditioned;
    if (adaptive) {
        config.adaptation_hop = 7;
        config.adaptation_weights.assign(30, 0.5);
    }
    config.pitch_taps = order && conditioned ? 3 : 0;
    config.pitch_reach = order && conditioned ? 40 : 0;
    config.input_channels = output == Output::MU_LAW ? 256 : adaptive ? 5 : order ? 3 + config.pitch_taps : 1;
    config.conditioned = conditioned;
    config.hop = conditioned ? 10 : 0;
    config.silence = output == Output::MU_LAW ? 128 : 0;
    config.output_channels = output == Output::MU_LAW ? 256 : output == Output::LOGISTIC ? 9 : 2;
    config.dilations = {1, 2, 4, 1, 2, 4};
    return config;
}

// A network with random weights, its conditioning, and uniform random numbers to generate with.
class Case {
public:
    Case(Output output, bool conditioned, int order) : config_(config_of(output, conditioned, order)) {
        for (double& uniform : uniforms_) uniform = random_();
        const int row = config_.prediction_order + 3;
        biases_.resize(std::size_t(FRAMES) * config_.layers() * 2 * config_.gate);
        for (float& bias : biases_) bias = float(random_() - 0.5);
        predictors_.assign(std::size_t(FRAMES - 2) * row, 0.01);
        for (int frame = 0; frame < FRAMES - 2; ++frame) predictors_[std::size_t(frame) * row + row - 1] = 20;
    }

    std::unique_ptr<Engine> engine(const std::string& precision, int threads) {
        return make_engine(config_, [&](const std::string& name) { return tensor(name); }, precision, threads);
    }

    // The same codes for every stream, `block` samples per call.
    std::vector<std::int64_t> generate(Engine& engine, State& state, int streams, int block) const {
        std::vector<std::int64_t> codes(std::size_t(streams) * SAMPLES);
        std::vector<double> uniforms;
        for (int stream = 0; stream < streams; ++stream)
            uniforms.insert(uniforms.end(), uniforms_.begin(), uniforms_.end());
        const auto frames = conditioning(streams);
        for (int first = 0; first < SAMPLES; first += block) {
            Request request = this->request(frames.get(), first, std::min(block, SAMPLES - first));
            request.uniforms = uniforms.data();
            request.drawn = codes.data();
            engine.run(state, request, [] { return false; });
        }
        return codes;
    }

    std::unique_ptr<ConditioningFrames> conditioning(int streams) const {
        if (!config_.conditioned) return nullptr;
        std::vector<float> biases;
        std::vector<double> predictors;
        for (int stream = 0; stream < streams; ++stream) {
            biases.insert(biases.end(), biases_.begin(), biases_.end());
            predictors.insert(predictors.end(), predictors_.begin(), predictors_.end());
        }
        return std::make_unique<ConditioningFrames>(config_, streams, FRAMES, biases.data(), predictors.data());
    }

    static Request request(const ConditioningFrames* frames, int first, int samples) {
        Request request;
        request.length = SAMPLES;
        request.first = first;
        request.samples = samples;
        request.conditioning = frames;
        request.offset = first;
        return request;
    }

private:
    const float* tensor(const std::string& name) {
        std::vector<float>& values = tensors_[name];
        if (values.empty()) {
            values.resize(200000);  // more than any tensor has
            const float size = name == "head.output.weight" ? 1.0f : 0.2f;
            for (float& value : values) value = size * float(random_() - 0.5);
        }
        return values.data();
    }

    const Config config_;
    Random random_;
    std::map<std::string, std::vector<float>> tensors_;
    std::vector<double> uniforms_ = std::vector<double>(SAMPLES);
    std::vector<float> biases_;
    std::vector<double> predictors_;
};

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
                }
            std::printf("%s %s: as with one thread\n", names[set], precision);
            std::fflush(stdout);
        }
    }
}
