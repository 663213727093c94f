// Frames that one thread pushes while another one uses them: the conditioning is that of chunks, without allocations. Made
// for sanitizers, see tests/sanitizers.sh. Exits with 1 for a wrong result.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "conditioning_stream.h"
#include "random_network.h"

using namespace wavenet;

namespace {

std::atomic<long> allocations{0};

}  // namespace

void* operator new(std::size_t size) {
    ++allocations;
    if (void* const memory = std::malloc(size ? size : 1)) return memory;
    std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

constexpr int CHUNK_FRAMES = 40, BANDS = 13, HOP = 12;

void check(bool right, const char* what) {
    if (right) return;
    std::printf("wrong: %s\n", what);
    std::exit(1);
}

ModelConfig model_config(FrameNetworkKind kind) {
    ModelConfig config;
    config.layers_per_cycle = 2;
    config.gate_channels = 20;
    config.output = Output::GAUSSIAN;
    config.speakers = {"ann", "bob"};
    config.features = MelConfig{};
    config.features->bands = BANDS;
    config.features->hop = HOP;
    config.frame_network = kind;
    config.frame_channels = 20;
    config.linear_prediction = 8;
    config.pitch_taps = 3;
    return config;
}

TensorMap random_tensors(const ModelConfig& config, Random& random) {
    TensorMap tensors;
    for (const auto& [name, shape] : config.shapes()) {
        std::size_t size = 1;
        for (std::size_t length : shape) size *= length;
        for (std::vector<float>& values = tensors[name]; values.size() < size;) values.push_back(float(random() - 0.5));
    }
    return tensors;
}

void compare(FrameNetworkKind kind, std::size_t capacity) {
    Random random;
    const ModelConfig config = model_config(kind);
    const auto conditioner = std::make_shared<const Conditioner>(config, random_tensors(config, random));
    const FrameContext context = conditioner->network().context();
    // The chunk begins with the first sample, and the features end with it.
    const int before = context.before + 1, n = before + CHUNK_FRAMES + context.after + 1;
    std::vector<float> frames(CHUNK_FRAMES * BANDS), features(std::size_t(BANDS) * n, conditioner->silence());
    for (int frame = 0; frame < CHUNK_FRAMES; ++frame)
        for (int band = 0; band < BANDS; ++band)
            features[std::size_t(band) * n + before + frame] = frames[frame * BANDS + band] = float(-7 + 4 * random());
    const float shares[] = {0.25f, 0.75f};
    const auto expected = conditioner->frames(1, shares, features.data(), n);

    ConditioningStream stream(conditioner, capacity);
    stream.speak(shares);
    std::thread pushing([&] {
        const long counted = allocations;
        for (int pushed = 0; pushed < CHUNK_FRAMES;) {
            const auto some = std::size_t(std::min(CHUNK_FRAMES - pushed, 3));
            pushed += int(stream.push(&frames[pushed * BANDS], some));
            std::this_thread::yield();
        }
        stream.end();
        check(allocations == counted, "allocations");
    });
    const long counted = allocations;
    std::size_t position = 0;
    while (position < CHUNK_FRAMES * HOP) {
        const std::size_t ready = stream.ready(position);
        check(ready <= stream.available(position), "available");
        for (std::size_t i = 0; i < ready; ++i) {
            const GateBiases own = stream.biases(0, i), other = expected->biases(0, position + i);
            check(own.fraction == other.fraction, "interpolation");
            check(std::equal(own.from, own.from + conditioner->width(), other.from), "gate biases");
            check(std::equal(own.to, own.to + conditioner->width(), other.to), "gate biases");
            check(std::equal(stream.predictor(0, i), stream.predictor(0, i) + config.linear_prediction + 3,
                             expected->predictor(0, position + i)),
                  "predictors");
        }
        stream.voiced();
        position += ready;
        if (!ready) std::this_thread::yield();
    }
    check(allocations == counted, "allocations");
    pushing.join();
    check(stream.ready(position) == 0, "the end");
}

}  // namespace

int main() {
    for (auto kind : {FrameNetworkKind::PLAIN, FrameNetworkKind::PARALLEL, FrameNetworkKind::CAUSAL})
        for (std::size_t capacity : {1, 4, 100}) compare(kind, capacity);
    std::printf("conditioning of streams: as of chunks\n");
}
