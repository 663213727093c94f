// Where some streams stand: their queues of past inputs, and the buffers of the step that is being made.
#pragma once

#include <cstdint>
#include <vector>

#include "prediction.h"
#include "told.h"
#include "weights.h"

namespace wavenet {

constexpr int MOST_STREAMS = 8;  // side by side in one step; larger batches are several of these

// One ring per layer, of a power of two of slots, at least (K - 1) d of them. The input of sample t lies in slot
// t mod slots; with two taps the oldest one lies where the newest will be written.
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
            while (slots < config.back(layer, 0)) slots *= 2;
            first_.push_back(size);
            mask_.push_back(slots - 1);
            size += slots * row_;
        }
        ring_.assign(size, 0);
    }

    // A layer's inputs `back` samples before sample t: [streams][R]
    typename P::Input* input(int layer, std::uint64_t t, std::size_t back = 0) {
        return ring_.data() + first_[layer] + ((t - back) & mask_[layer]) * row_;
    }

    const int streams;
    std::uint64_t position = 0;       // samples made or fed so far
    std::vector<std::int64_t> codes;  // the last of each stream: the next input
    Predictor predictor;

private:
    std::size_t row_;
    std::vector<std::size_t> first_, mask_;
    Line<typename P::Input> ring_;
};

// The buffers of a step; nothing in them outlives it.
template <class P>
struct Scratch {
    Scratch(const Config& c, int streams)
        : past(std::size_t(c.layers()) * streams * 2 * c.gate_width()),
          residual(std::size_t(streams) * c.residual_width()),
          inputs(std::size_t(streams) * c.rows),
          embedded(c.residual_width()),
          x(std::size_t(streams) * c.residual_width()),
          z(std::size_t(streams) * c.all_gates_width()),
          skip(std::size_t(streams) * c.skip_width()),
          hidden(std::size_t(streams) * c.head_width()),
          output(std::size_t(streams) * c.output_width()),
          skip_input(std::size_t(streams) * c.skip_width()),
          hidden_input(std::size_t(streams) * c.head_width()),
          numbers(padded(c.skip > c.head ? c.skip : c.head)),
          logits(std::size_t(streams) * c.output_width()) {}

    Line<typename P::Sum> past;                 // [L][streams][2G]: what the past adds to [a | b]
    Line<typename P::Sum> residual;             // [streams][R]
    Biases biases;                              // of the gates
    std::vector<float> inputs;                  // [streams][rows]: what a 16-bit network is given
    Line<float> embedded;                       // [R], one stream's
    Line<float> x;                              // [streams][R]
    Line<typename P::Input> z;                  // [streams][L*G]
    Line<typename P::Sum> skip, hidden, output;  // [streams][S], [H], [A]
    Line<typename P::Input> skip_input, hidden_input;
    Line<float> numbers;  // one stream's, before they are rounded
    Line<float> logits;   // [streams][A]
};

}  // namespace wavenet
