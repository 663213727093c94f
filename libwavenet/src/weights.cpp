#include "weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "failure.h"
#include "linear_prediction.h"

namespace wavenet {
namespace {

// A padded matrix before it is packed: values, or after quantisation the integers of each row and their scale.
struct DenseMatrix {
    int rows, inputs;
    std::vector<double> values;  // [rows, inputs]
    std::vector<double> scale;   // [rows]

    DenseMatrix(int rows, int inputs)
        : rows(rows), inputs(inputs), values(std::size_t(rows) * inputs), scale(rows, 1.0) {}
    double& at(int row, int input) { return values[std::size_t(row) * inputs + input]; }
    double at(int row, int input) const { return values[std::size_t(row) * inputs + input]; }

    double absolute_sum(int row) const {
        double sum = 0;
        for (int input = 0; input < inputs; ++input) sum += std::abs(at(row, input));
        return sum;
    }

    // The largest |W x| of a row for |x| <= `input_bound`.
    double bound(int row, double input_bound) const { return absolute_sum(row) * scale[row] * input_bound; }
    double bound(double input_bound) const {
        double most = 0;
        for (int row = 0; row < rows; ++row) most = std::max(most, bound(row, input_bound));
        return most;
    }

    // Quantises to integers up to 127, with one scale per row over all inputs.
    void quantise() {
        for (int row = 0; row < rows; ++row) {
            double most = 0;
            for (int input = 0; input < inputs; ++input) most = std::max(most, std::abs(at(row, input)));
            if (most == 0) continue;
            scale[row] = most / 127;
            for (int input = 0; input < inputs; ++input) at(row, input) = std::nearbyint(at(row, input) / scale[row]);
        }
    }

    // After quantisation: the largest integer inputs with which no int32 sum overflows.
    double max_input() const {
        double most = 1;
        for (int row = 0; row < rows; ++row) most = std::max(most, absolute_sum(row));
        return std::min(double(MAX_ACTIVATION), std::floor(std::numeric_limits<std::int32_t>::max() / most));
    }
};

// All matrices of a network, before they are packed.
struct DenseWeights {
    std::vector<DenseMatrix> dilated;    // per layer: [a | b] from [tap 0 | tap 1 | ...]
    std::vector<DenseMatrix> residuals;  // per layer but the last
    DenseMatrix skip, hidden, output;
};

const float* finite(const Tensors& tensors, const std::string& name, std::size_t size) {
    const float* const values = tensors(name);
    if (!std::all_of(values, values + size, [](float value) { return std::isfinite(value); }))
        fail("the weights " + name + " contain NaN or infinity: their training diverged");
    return values;
}

std::string layer_name(int layer) { return "layers." + std::to_string(layer); }

DenseMatrix padded_matrix(const Tensors& tensors, const std::string& name, int rows, int inputs) {
    const float* const values = finite(tensors, name, std::size_t(rows) * inputs);
    DenseMatrix dense(padded(rows), padded(inputs));
    for (int row = 0; row < rows; ++row)
        for (int input = 0; input < inputs; ++input) dense.at(row, input) = values[std::size_t(row) * inputs + input];
    return dense;
}

AlignedVector<float> padded_vector(const Tensors& tensors, const std::string& name, int size) {
    const float* const values = finite(tensors, name, size);
    AlignedVector<float> result(padded(size), 0.0f);
    std::copy(values, values + size, result.begin());
    return result;
}

// [K, 2G, R] -> [a | b] x [tap 0 | tap 1 | ...], each part padded
DenseMatrix dilated_matrix(const Config& c, const Tensors& tensors, int layer) {
    const std::string name = layer_name(layer) + ".dilated.weight";
    const float* values = finite(tensors, name, std::size_t(c.kernel_size) * 2 * c.gate * c.residual);
    DenseMatrix dense(2 * c.gate_width(), c.kernel_size * c.residual_width());
    for (int tap = 0; tap < c.kernel_size; ++tap)
        for (int half = 0; half < 2; ++half)
            for (int i = 0; i < c.gate; ++i)
                for (int j = 0; j < c.residual; ++j)
                    dense.at(half * c.gate_width() + i, tap * c.residual_width() + j) = *values++;
    return dense;
}

// [S, L*G], each layer's part padded
DenseMatrix skip_matrix(const Config& c, const Tensors& tensors) {
    const float* values = finite(tensors, "skip.weight", std::size_t(c.skip) * c.layers() * c.gate);
    DenseMatrix dense(c.skip_width(), c.all_gates_width());
    for (int row = 0; row < c.skip; ++row)
        for (int layer = 0; layer < c.layers(); ++layer)
            for (int i = 0; i < c.gate; ++i) dense.at(row, layer * c.gate_width() + i) = *values++;
    return dense;
}

DenseWeights dense_weights(const Config& c, const Tensors& tensors) {
    DenseWeights dense{{},
                       {},
                       skip_matrix(c, tensors),
                       padded_matrix(tensors, "head.hidden.weight", c.head, c.skip),
                       padded_matrix(tensors, "head.output.weight", c.output_channels, c.head)};
    for (int layer = 0; layer < c.layers(); ++layer) {
        dense.dilated.push_back(dilated_matrix(c, tensors, layer));
        if (layer + 1 < c.layers())
            dense.residuals.push_back(
                padded_matrix(tensors, layer_name(layer) + ".residual.weight", c.residual, c.gate));
    }
    return dense;
}

// All values in a step are bounded for any input, since |z| < 1. So it can be verified here that no value overflows, and
// the kernels need not check for NaN.
void check_bound(double bound, const std::string& place) {
    if (!(bound < 1e30)) fail("the weights of " + place + " are too large: its outputs could overflow");
}

// Bounds on |x| of each residual channel at the input of every layer: [L][R]. Q: unquantised, or quantised.
std::vector<std::vector<double>> input_bounds(const Config& c, const AlignedVector<float>& embedding,
                                              const std::vector<DenseMatrix>& residuals, const Tensors& tensors) {
    std::vector<std::vector<double>> bounds{std::vector<double>(c.residual_width(), 0.0)};
    for (int row = 0; row < c.input_channels; ++row)
        for (int i = 0; i < c.residual; ++i) {
            double& bound = bounds[0][i];
            const double value = std::abs(double(embedding[std::size_t(row) * c.residual_width() + i]));
            if (c.output == Output::MU_LAW) bound = std::max(bound, value);  // x is one of the rows,
            else bound += value * (c.prediction_order ? INPUT_LIMIT : 1);    // or a weighted sum of them
        }
    for (int layer = 0; layer + 1 < c.layers(); ++layer) {
        const float* const bias = tensors(layer_name(layer) + ".residual.bias");
        bounds.push_back(bounds.back());
        for (int i = 0; i < c.residual; ++i)
            bounds.back()[i] += residuals[layer].bound(i, 1) + std::abs(double(bias[i]));
    }
    return bounds;
}

double largest(const AlignedVector<float>& values) {
    double most = 0;
    for (float value : values) most = std::max(most, std::abs(double(value)));
    return most;
}

// scale [rows] of sums whose inputs have `resolution` integer steps per 1.0
AlignedVector<float> sum_scales(const DenseMatrix& dense, double resolution) {
    AlignedVector<float> scale(dense.rows);
    for (int row = 0; row < dense.rows; ++row) scale[row] = float(dense.scale[row] / resolution);
    return scale;
}

// Appends the columns [first, first + inputs) to the store, in tiles.
template <class P>
Matrix pack(AlignedVector<typename P::Weight>& store, const DenseMatrix& dense, int first, int inputs) {
    constexpr int STEP = P::QUANTISED ? 2 : 1;  // inputs whose weights are adjacent
    const Matrix matrix{store.size(), dense.rows, inputs};
    for (int tile = 0; tile < dense.rows; tile += TILE)
        for (int input = first; input < first + inputs; input += STEP)
            for (int row = tile; row < std::min(tile + TILE, dense.rows); ++row)
                for (int i = 0; i < STEP; ++i)
                    store.push_back(static_cast<typename P::Weight>(dense.at(row, input + i)));
    return matrix;
}

template <class P>
void read_vectors(Weights<P>& w, const Tensors& tensors) {
    const Config& c = w.config;
    const float* const table = finite(tensors, "embedding.weight", std::size_t(c.input_channels) * c.residual);
    w.embedding.assign(std::size_t(c.input_channels) * c.residual_width(), 0.0f);
    for (int row = 0; row < c.input_channels; ++row)
        std::copy_n(table + std::size_t(row) * c.residual, c.residual,
                    &w.embedding[std::size_t(row) * c.residual_width()]);
    w.gate_bias.assign(std::size_t(c.layers()) * 2 * c.gate_width(), 0.0f);
    w.layers.resize(c.layers());
    for (int layer = 0; layer < c.layers(); ++layer) {
        const float* const bias = finite(tensors, layer_name(layer) + ".dilated.bias", 2 * std::size_t(c.gate));
        float* const halves = &w.gate_bias[std::size_t(layer) * 2 * c.gate_width()];  // [a | b]
        std::copy_n(bias, c.gate, halves);
        std::copy_n(bias + c.gate, c.gate, halves + c.gate_width());
        if (layer + 1 < c.layers())
            w.layers[layer].residual_bias = padded_vector(tensors, layer_name(layer) + ".residual.bias", c.residual);
    }
    w.skip_bias = padded_vector(tensors, "skip.bias", c.skip);
    w.hidden_bias = padded_vector(tensors, "head.hidden.bias", c.head);
    w.output_bias = padded_vector(tensors, "head.output.bias", c.output_channels);
}

// Rounds everything but the dilated convolutions to int8, and chooses the resolution of their inputs.
template <class P>
void quantise(Weights<P>& w, DenseWeights& dense) {
    dense.skip.quantise();
    double max_gate = dense.skip.max_input();
    for (DenseMatrix& residual : dense.residuals) {
        residual.quantise();
        max_gate = std::min(max_gate, residual.max_input());
    }
    dense.hidden.quantise();
    dense.output.quantise();
    w.gate_resolution = float(max_gate);
    w.max_skip_input = float(dense.hidden.max_input());
    w.max_hidden_input = float(dense.output.max_input());
}

// Rounds a dilated convolution whose inputs do not exceed `bound` to int8, and chooses the resolution of its inputs.
template <class P>
void quantise(LayerWeights<P>& layer, DenseMatrix& dilated, double bound, const std::string& name) {
    dilated.quantise();
    layer.resolution = bound > 0 ? float(dilated.max_input() / bound) : 1.0f;
    if (!std::isfinite(layer.resolution) || !(layer.resolution > 0))
        fail("the weights up to " + name + " are too large or too small for int8");
}

// In the order of use: the past taps of all layers, then layer by layer, then skip and head.
template <class P>
void pack_all(Weights<P>& w, const DenseWeights& dense) {
    const Config& c = w.config;
    const int past = c.past_taps() * c.residual_width();
    for (int layer = 0; layer < c.layers(); ++layer)
        w.layers[layer].past = pack<P>(w.store, dense.dilated[layer], 0, past);
    for (int layer = 0; layer < c.layers(); ++layer) {
        LayerWeights<P>& own = w.layers[layer];
        own.current = pack<P>(w.store, dense.dilated[layer], past, c.residual_width());
        own.gate_scale = sum_scales(dense.dilated[layer], own.resolution);
        if (layer + 1 == c.layers()) break;
        own.residual = pack<P>(w.store, dense.residuals[layer], 0, c.gate_width());
        own.residual_scale = sum_scales(dense.residuals[layer], w.gate_resolution);
    }
    w.skip = pack<P>(w.store, dense.skip, 0, dense.skip.inputs);
    w.hidden = pack<P>(w.store, dense.hidden, 0, dense.hidden.inputs);
    w.output = pack<P>(w.store, dense.output, 0, dense.output.inputs);
    w.skip_scale = sum_scales(dense.skip, w.gate_resolution);
    w.hidden_scale = sum_scales(dense.hidden, 1);
    w.output_scale = sum_scales(dense.output, 1);
}

}  // namespace

template <class P>
Weights<P>::Weights(const Config& c, const Tensors& tensors) : config(c) {
    read_vectors(*this, tensors);
    DenseWeights dense = dense_weights(c, tensors);
    if constexpr (P::QUANTISED) quantise(*this, dense);

    const auto bounds = input_bounds(c, embedding, dense.residuals, tensors);
    for (int layer = 0; layer < c.layers(); ++layer) {
        const double bound = *std::max_element(bounds[layer].begin(), bounds[layer].end());
        check_bound(std::max(bound, dense.dilated[layer].bound(bound)), layer_name(layer));
        if constexpr (P::QUANTISED) quantise(layers[layer], dense.dilated[layer], bound, layer_name(layer));
    }
    const double skip_bound = dense.skip.bound(1) + largest(skip_bias);
    const double hidden_bound = dense.hidden.bound(skip_bound) + largest(hidden_bias);
    check_bound(dense.output.bound(hidden_bound) + largest(output_bias), "head");

    pack_all(*this, dense);
}

template struct Weights<Float32>;
template struct Weights<Int8>;

}  // namespace wavenet
