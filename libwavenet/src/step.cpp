#include "step.h"

#include <algorithm>

namespace wavenet {
namespace {

// Prefetches values that are needed after a product.
void prefetch(const float* values, int n) {
#if defined(__GNUC__)
    for (int i = 0; i < n; i += CACHE_LINE / sizeof(float)) __builtin_prefetch(values + i);
#else
    (void)values, (void)n;
#endif
}

// A sum of products as a float.
float value_of(float sum, float) { return sum; }
float value_of(std::int32_t sum, float scale) { return float(sum) * scale; }

}  // namespace

template <class P>
void Step<P>::multiply(const Matrix& matrix, int first, int inputs, const Input* x, std::size_t x_stride, Sum* y,
                       std::size_t y_stride, int streams, bool fresh, int tile, int last_tile) const {
    const std::size_t tile_stride = std::size_t(TILE) * matrix.inputs;
    kernels_.product({weights_.at(matrix) + tile * tile_stride, tile_stride, first, inputs,
                      std::min(matrix.rows, last_tile * TILE) - tile * TILE, x, x_stride, y + tile * TILE, y_stride,
                      streams, fresh});
}

template <class P>
void Step<P>::prepare(Queues<P>& queues, StepBuffers<P>& buffers, const Conditioning* conditioning, int first,
                      std::size_t offset) const {
    const float* const own = weights_.gate_bias.data();
    buffers.biases = conditioning ? conditioning->biases(first, offset) : GateBiases{own, own, 0, 0};
    if (config_.output == Output::MU_LAW) return;
    for (int s = 0; s < queues.streams; ++s) {
        const double last = double(queues.codes[s]) / FULL_SCALE;
        float* const inputs = &buffers.inputs[std::size_t(s) * config_.input_channels];
        if (config_.adaptation_hop) queues.predictor.next_adaptive(s, last, queues.position, config_, inputs);
        else if (config_.prediction_order)
            queues.predictor.next(s, last, conditioning->predictor(first + s, offset), inputs);
        else inputs[0] = float(last);
    }
}

template <class P>
void Step<P>::past(Queues<P>& queues, Sum* sums, int layer, std::uint64_t t) const {
    const Matrix& matrix = weights_.layers[layer].past;
    const int width = config_.residual_width();
    for (int tap = 0; tap < config_.past_taps(); ++tap)
        multiply(matrix, tap * width, width, queues.input(layer, t, config_.delay(layer, tap)), width, sums,
                 matrix.rows, queues.streams, tap == 0, 0, matrix.tiles());
}

template <class P>
void Step<P>::embed(Queues<P>& queues, StepBuffers<P>& buffers, std::uint64_t t) const {
    const int width = config_.residual_width();
    for (int s = 0; s < queues.streams; ++s) {
        const float* row = &weights_.embedding[0];
        if (config_.output == Output::MU_LAW) {
            row += queues.codes[s] * width;
        } else {
            embed_inputs(&buffers.inputs[std::size_t(s) * config_.input_channels], buffers.embedded.data());
            row = buffers.embedded.data();
        }
        kernels_.embed(row, width, weights_.layers[0].resolution, &buffers.x[s * width],
                       queues.input(0, t) + s * width);
    }
}

// row [R]: the inputs [input channels] of a 16-bit network times the embedding
template <class P>
void Step<P>::embed_inputs(const float* inputs, float* row) const {
    const int width = config_.residual_width();
    const float* const table = weights_.embedding.data();
    for (int i = 0; i < width; ++i) {
        float sum = 0;
        for (int j = 0; j < config_.input_channels; ++j) sum += inputs[j] * table[j * width + i];
        row[i] = sum;
    }
}

template <class P>
void Step<P>::layer(Queues<P>& queues, StepBuffers<P>& buffers, Sum* sums, int layer, std::uint64_t t) const {
    const LayerWeights<P>& own = weights_.layers[layer];
    const int width = config_.residual_width(), gates = config_.gate_width(), all = config_.all_gates_width();
    auto* z = buffers.z.data() + layer * gates;  // [streams][G], the streams a whole row of layers apart
    const GateBiases& biases = buffers.biases;
    if (buffers.muted && buffers.muted[layer]) {
        for (int s = 0; s < queues.streams; ++s) std::fill_n(z + s * all, gates, Input(0));
        if (layer == buffers.watched) std::fill(buffers.gate_inputs.begin(), buffers.gate_inputs.end(), 0.0f);
    } else {
        const float* const from = biases.from + layer * 2 * gates;  // [2G], the streams a whole row of layers apart
        const float* const to = biases.to + layer * 2 * gates;
        prefetch(own.gate_scale.data(), 2 * gates);
        for (int s = 0; s < (biases.stride ? queues.streams : 1); ++s) {
            prefetch(from + s * biases.stride, 2 * gates);
            if (to != from) prefetch(to + s * biases.stride, 2 * gates);
        }
        multiply(own.current, queues.input(layer, t), width, sums, 2 * gates, queues.streams, false);
        for (int s = 0; s < queues.streams; ++s)
            kernels_.gate(sums + s * 2 * gates, own.gate_scale.data(), from + s * biases.stride, to + s * biases.stride,
                          biases.fraction, gates, weights_.gate_resolution, z + s * all);
        for (int i = 0; layer == buffers.watched && i < 2 * gates; ++i)
            buffers.gate_inputs[i] =
                value_of(sums[i], own.gate_scale[i]) + from[i] + biases.fraction * (to[i] - from[i]);
    }
    if (layer + 1 == config_.layers()) return;
    auto* change = buffers.residual.data();  // [streams][R]
    prefetch(own.residual_scale.data(), width);
    prefetch(own.residual_bias.data(), width);
    multiply(own.residual, z, all, change, width, queues.streams, true);
    for (int s = 0; s < queues.streams; ++s)
        kernels_.residual(change + s * width, own.residual_scale.data(), own.residual_bias.data(), width,
                          weights_.layers[layer + 1].resolution, &buffers.x[s * width],
                          queues.input(layer + 1, t) + s * width);
}

template <class P>
void Step<P>::skip(int streams, const Input* z, Sum* sums, int tile, int last_tile, int layer, int last_layer) const {
    const int gates = config_.gate_width();
    multiply(weights_.skip, layer * gates, (last_layer - layer) * gates, z + layer * gates, config_.all_gates_width(),
             sums, config_.skip_width(), streams, layer == 0, tile, last_tile);
}

template <class P>
void Step<P>::head(const Queues<P>& queues, StepBuffers<P>& buffers) const {
    const Weights<P>& w = weights_;
    const int streams = queues.streams;
    const int skip = config_.skip_width(), head = config_.head_width(), outputs = config_.output_width();
    float skip_scale[MAX_STREAMS], hidden_scale[MAX_STREAMS];  // of one integer step in the head's inputs
    for (int s = 0; s < streams; ++s)
        skip_scale[s] = kernels_.relu(&buffers.skip[s * skip], w.skip_scale.data(), 1, w.skip_bias.data(), skip,
                                      w.max_skip_input, buffers.rectified.data(), &buffers.skip_input[s * skip]);
    multiply(w.hidden, buffers.skip_input.data(), skip, buffers.hidden.data(), head, streams, true);
    for (int s = 0; s < streams; ++s)
        hidden_scale[s] =
            kernels_.relu(&buffers.hidden[s * head], w.hidden_scale.data(), skip_scale[s], w.hidden_bias.data(), head,
                          w.max_hidden_input, buffers.rectified.data(), &buffers.hidden_input[s * head]);
    multiply(w.output, buffers.hidden_input.data(), head, buffers.output.data(), outputs, streams, true);
    for (int s = 0; s < streams; ++s) {
        kernels_.output(&buffers.output[s * outputs], w.output_scale.data(), hidden_scale[s], w.output_bias.data(),
                        outputs, &buffers.parameters[s * outputs]);
        if (config_.prediction_order) queues.predictor.shift(s, config_, &buffers.parameters[s * outputs]);
    }
}

template class Step<Float32>;
template class Step<Int8>;

}  // namespace wavenet
