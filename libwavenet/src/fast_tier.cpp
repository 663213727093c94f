#include "fast_tier.h"

#include <algorithm>

#include "failure.h"
#include "network.h"
#include "parallel_step.h"
#include "stream_group.h"

namespace wavenet {
namespace {

template <class P>
class FastTierOf : public FastTier {
public:
    explicit FastTierOf(std::shared_ptr<const Network<P>> network)
        : network_(std::move(network)), group_(network_->config(), 1) {}
    FastTierOf(const FastTierOf& other)
        : network_(other.network_), group_(network_->config(), *other.group_.memory.queues) {
        group_.memory.buffers->watched = other.group_.memory.buffers->watched;
    }

    void generate(const Conditioning* conditioning, const double* uniforms, const Sampling& sampling, const bool* muted,
                  std::int64_t* codes, std::size_t n) override {
        Request request = request_for(conditioning, muted, n);
        request.uniforms = uniforms;
        request.sampling = sampling;
        request.drawn = codes;
        advance<P>(*network_, group_, request, 0, 0, n, parallel_.get());
    }

    void feed(const Conditioning* conditioning, const bool* muted, const std::int64_t* codes, std::size_t n) override {
        Request request = request_for(conditioning, muted, n);
        request.given = codes;
        advance<P>(*network_, group_, request, 0, 0, n, nullptr);
    }

    std::unique_ptr<FastTier> copy() const override { return std::make_unique<FastTierOf>(*this); }

    void prepare(int threads) override {
        parallel_ = nullptr;  // ends its threads
        parallel_ = make_parallel_step(*network_, group_.memory, threads);
    }
    const char* kernels() const override { return network_->kernels.name; }

    void gates(float* z) const override {
        const Config& config = network_->config();
        const float step = 1 / network_->weights.gate_resolution;
        for (int layer = 0; layer < config.layers(); ++layer) {
            const auto* const from = &group_.memory.buffers->z[std::size_t(layer) * config.gate_width()];
            for (int i = 0; i < config.gate; ++i) *z++ = float(from[i]) * step;
        }
    }
    void watch(int layer) override {
        StepBuffers<P>& buffers = *group_.memory.buffers;
        if (layer != buffers.watched) std::fill(buffers.gate_inputs.begin(), buffers.gate_inputs.end(), 0.0f);
        buffers.watched = layer;
    }
    void watched(float* ab) const override {
        const Config& config = network_->config();
        const float* const inputs = group_.memory.buffers->gate_inputs.data();
        std::copy_n(inputs, config.gate, ab);
        std::copy_n(inputs + config.gate_width(), config.gate, ab + config.gate);
    }

private:
    static Request request_for(const Conditioning* conditioning, const bool* muted, std::size_t n) {
        Request request;
        request.length = request.samples = n;
        request.conditioning = conditioning;
        request.muted = muted;
        return request;
    }

    std::shared_ptr<const Network<P>> network_;
    StreamGroup<P> group_;
    std::unique_ptr<ParallelStep> parallel_;  // last: its threads end before what they use
};

template <class P>
std::unique_ptr<FastTier> make(const Config& config, const Tensors& tensors) {
    return std::make_unique<FastTierOf<P>>(std::make_shared<const Network<P>>(config, tensors));
}

}  // namespace

std::unique_ptr<FastTier> make_fast_tier(const Config& config, const Tensors& tensors, const std::string& precision) {
    if (precision == Float32::NAME) return make<Float32>(config, tensors);
    if (precision == Int8::NAME) return make<Int8>(config, tensors);
    fail("precision " + precision + ": must be f32 or int8");
}

}  // namespace wavenet
