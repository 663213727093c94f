// Small networks with random weights, their conditioning, and uniform random numbers to generate with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "network.h"

namespace wavenet {

constexpr int SAMPLES = 160;
constexpr int FRAMES = 32 + 2;  // of a conditioning chunk, one more frame on either side included

// Uniform in [0, 1), the same in every run.
struct Random {
    std::uint64_t state = 1;
    double operator()() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return double(state >> 11) / 9007199254740992.0;
    }
};

inline Config config_of(Output output, bool conditioned, int order) {
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

class Case {
public:
    Case(Output output, bool conditioned, int order) : config_(config_of(output, conditioned, order)) {
        for (double& uniform : uniforms_) uniform = random_();
        const int row = config_.prediction_order + 3;
        biases_.resize(std::size_t(FRAMES) * 2 * config_.all_gates_width());
        for (float& bias : biases_) bias = float(random_() - 0.5);
        predictors_.assign(std::size_t(FRAMES - 2) * row, 0.01);
        for (int frame = 0; frame < FRAMES - 2; ++frame) predictors_[std::size_t(frame) * row + row - 1] = 20;
    }

    std::unique_ptr<Engine> engine(const std::string& precision, int threads) {
        return make_engine(config_, [&](const std::string& name) { return tensor(name); }, precision, threads);
    }

    template <class P>
    std::unique_ptr<const Network<P>> network() {
        return std::make_unique<Network<P>>(config_, [&](const std::string& name) { return tensor(name); });
    }
    const std::vector<double>& uniforms() const { return uniforms_; }

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
        const auto width = std::ptrdiff_t(biases_.size()) / FRAMES;
        AlignedVector<float> biases;  // [frames][streams][width]
        for (auto frame = biases_.begin(); frame != biases_.end(); frame += width)
            for (int stream = 0; stream < streams; ++stream) biases.insert(biases.end(), frame, frame + width);
        std::vector<double> predictors;
        for (int stream = 0; stream < streams && config_.prediction_order; ++stream)
            predictors.insert(predictors.end(), predictors_.begin(), predictors_.end());
        return std::make_unique<ConditioningFrames>(config_, streams, FRAMES, std::move(biases), std::move(predictors));
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

}  // namespace wavenet
