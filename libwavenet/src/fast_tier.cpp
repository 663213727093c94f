#include "fast_tier.h"

#include "failure.h"
#include "network.h"
#include "stream_group.h"

namespace wavenet {
namespace {

template <class P>
class FastTierOf : public FastTier {
public:
    FastTierOf(std::shared_ptr<const Network<P>> network, StreamGroup<P> group)
        : network_(std::move(network)), group_(std::move(group)) {}

    void generate(const Conditioning* conditioning, const double* uniforms, const Sampling& sampling, const bool* muted,
                  std::int64_t* codes, std::size_t n) override {
        Request request = request_for(conditioning, n);
        request.uniforms = uniforms;
        request.sampling = sampling;
        request.drawn = codes;
        request.muted = muted;
        advance<P>(*network_, group_, request, 0, 0, n, nullptr);
    }

    void feed(const Conditioning* conditioning, const std::int64_t* codes, std::size_t n) override {
        Request request = request_for(conditioning, n);
        request.given = codes;
        advance<P>(*network_, group_, request, 0, 0, n, nullptr);
    }

    std::unique_ptr<FastTier> copy() const override {
        return std::make_unique<FastTierOf>(network_, StreamGroup<P>(network_->config(), *group_.memory.queues));
    }
    std::unique_ptr<FastTier> restarted() const override {
        return std::make_unique<FastTierOf>(network_, StreamGroup<P>(network_->config(), 1));
    }

    void prepare(int) override {}
    const char* kernels() const override { return network_->kernels.name; }

private:
    static Request request_for(const Conditioning* conditioning, std::size_t n) {
        Request request;
        request.length = request.samples = n;
        request.conditioning = conditioning;
        return request;
    }

    std::shared_ptr<const Network<P>> network_;
    StreamGroup<P> group_;
};

template <class P>
std::unique_ptr<FastTier> make(const Config& config, const Tensors& tensors) {
    auto network = std::make_shared<const Network<P>>(config, tensors);
    StreamGroup<P> group(network->config(), 1);
    return std::make_unique<FastTierOf<P>>(std::move(network), std::move(group));
}

}  // namespace

std::unique_ptr<FastTier> make_fast_tier(const Config& config, const Tensors& tensors, const std::string& precision) {
    if (precision == Float32::NAME) return make<Float32>(config, tensors);
    if (precision == Int8::NAME) return make<Int8>(config, tensors);
    fail("precision " + precision + ": must be f32 or int8");
}

}  // namespace wavenet
