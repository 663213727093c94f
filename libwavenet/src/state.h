// The running state of some streams: queues of past inputs, and the buffers of the current sample.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "conditioning.h"
#include "linear_prediction.h"
#include "weights.h"

namespace wavenet {

constexpr int MAX_STREAMS = 8;  // per step; larger batches are divided into several groups

// One ring buffer per layer with a power of two of slots, at least (K - 1) d. The input of sample t is in slot
// t mod slots; with two taps the oldest input is where the newest will be written.
template <class P>
class Queues {
public:
    Queues(const Config& config, int streams)
        : streams(streams),
          codes(streams, config.silence),
          predictor(config, streams),
          row_(std::size_t(streams) * config.residual_width()) {
        std::size_t size = 0;
        for (int layer = 0; layer < config.layers(); ++layer) {
            std::size_t slots = 1;
            while (slots < config.delay(layer, 0)) slots *= 2;
            first_.push_back(size);
            mask_.push_back(slots - 1);
            size += slots * row_;
        }
        ring_.assign(size, 0);
    }

    // A layer's inputs `delay` samples before sample t: [streams][R]
    typename P::Input* input(int layer, std::uint64_t t, std::size_t delay = 0) {
        return ring_.data() + first_[layer] + ((t - delay) & mask_[layer]) * row_;
    }

    // Forgets the inputs.
    void clear() { std::fill(ring_.begin(), ring_.end(), typename P::Input(0)); }

    // Continues as a copy of `other`, which belongs to as many streams of the same network. Sizes stay, so that nothing
    // is allocated.
    void assign(const Queues& other) {
        position = other.position;
        codes = other.codes;
        predictor = other.predictor;
        ring_ = other.ring_;
    }

    const int streams;
    std::uint64_t position = 0;       // samples generated or fed so far
    std::vector<std::int64_t> codes;  // the last code of each stream: the next input
    LinearPredictor predictor;

private:
    std::size_t row_;
    std::vector<std::size_t> first_, mask_;
    AlignedVector<typename P::Input> ring_;
};

// The buffers of one step; nothing in them is needed by the next.
template <class P>
struct StepBuffers {
    StepBuffers(const Config& c, int streams)
        : past(std::size_t(c.layers()) * streams * 2 * c.gate_width()),
          residual(std::size_t(streams) * c.residual_width()),
          gate_inputs(2 * std::size_t(c.gate_width())),
          inputs(std::size_t(streams) * c.input_channels),
          embedded(c.residual_width()),
          x(std::size_t(streams) * c.residual_width()),
          z(std::size_t(streams) * c.all_gates_width()),
          skip(std::size_t(streams) * c.skip_width()),
          hidden(std::size_t(streams) * c.head_width()),
          output(std::size_t(streams) * c.output_width()),
          skip_input(std::size_t(streams) * c.skip_width()),
          hidden_input(std::size_t(streams) * c.head_width()),
          rectified(padded(c.skip > c.head ? c.skip : c.head)),
          parameters(std::size_t(streams) * c.output_width()) {}

    AlignedVector<typename P::Sum> past;      // [L][streams][2G]: the past taps' part of [a | b]
    AlignedVector<typename P::Sum> residual;  // [streams][R]
    GateBiases biases;
    const bool* muted = nullptr;                          // [L]: the layers whose z is 0; null: none
    int watched = -1;                                     // the layer whose gate inputs are kept; -1: none
    std::vector<float> gate_inputs;                       // [a | b], of the first stream
    std::vector<float> inputs;                            // [streams][input channels] of a 16-bit network
    AlignedVector<float> embedded;                        // [R], of one stream
    AlignedVector<float> x;                               // [streams][R]
    AlignedVector<typename P::Input> z;                   // [streams][L*G]
    AlignedVector<typename P::Sum> skip, hidden, output;  // [streams][S], [H], [A]
    AlignedVector<typename P::Input> skip_input, hidden_input;
    AlignedVector<float> rectified;   // of one stream, before quantisation
    AlignedVector<float> parameters;  // output parameters [streams][A]
};

// The queues and buffers of a group of streams. Shared with helper threads, which may keep a reference; see pipeline.h.
template <class P>
struct Memory {
    Memory() = default;
    Memory(const Config& config, int streams)
        : queues(std::make_shared<Queues<P>>(config, streams)),
          buffers(std::make_shared<StepBuffers<P>>(config, streams)) {}
    Memory(const Config& config, const Queues<P>& other)
        : queues(std::make_shared<Queues<P>>(other)),
          buffers(std::make_shared<StepBuffers<P>>(config, other.streams)) {}

    std::shared_ptr<Queues<P>> queues;
    std::shared_ptr<StepBuffers<P>> buffers;
};

}  // namespace wavenet
