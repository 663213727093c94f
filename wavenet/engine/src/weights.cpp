#include "weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "prediction.h"

namespace wavenet {
namespace {

// A padded matrix on its way into tiles; float32 keeps its numbers, int8 the integers of each row and its scale.
struct Dense {
    int rows, inputs;
    std::vector<double> number;  // [rows, inputs]
    std::vector<double> scale;   // [rows]

    Dense(int rows, int inputs) : rows(rows), inputs(inputs), number(std::size_t(rows) * inputs), scale(rows, 1.0) {}
    double& at(int row, int input) { return number[std::size_t(row) * inputs + input]; }
    double at(int row, int input) const { return number[std::size_t(row) * inputs + input]; }

    // To whole numbers up to 127 times a scale for each row, which takes in all inputs.
    void round_to_int8() {
        for (int row = 0; row < rows; ++row) {
            double most = 0;
            for (int input = 0; input < inputs; ++input) most = std::max(most, std::abs(at(row, input)));
            if (most == 0) continue;
            scale[row] = most / 127;
            for (int input = 0; input < inputs; ++input) at(row, input) = std::nearbyint(at(row, input) / scale[row]);
        }
    }

    // What |W x| cannot exceed in a row while no |x| exceeds `bound`.
    double bound(int row, double bound) const {
        double sum = 0;
        for (int input = 0; input < inputs; ++input) sum += std::abs(at(row, input));
        return sum * scale[row] * bound;
    }
    double bound(double bound) const {
        double most = 0;
        for (int row = 0; row < rows; ++row) most = std::max(most, this->bound(row, bound));
        return most;
    }

    // How large the integers of an input may be so that no sum of int32 overflows.
    double most_levels() const {
        double most = 1;
        for (int row = 0; row < rows; ++row) {
            double sum = 0;
            for (int input = 0; input < inputs; ++input) sum += std::abs(at(row, input));
            most = std::max(most, sum);
        }
        return std::min(double(MOST_LEVELS), std::floor(std::numeric_limits<std::int32_t>::max() / most));
    }
};

template <class P>
constexpr bool INTEGER = std::is_same_v<typename P::Weight, std::int8_t>;
template <class P>
constexpr int STEP = INTEGER<P> ? 2 : 1;  // inputs that lie side by side

// Appends the columns [first, first + inputs) in tiles.
template <class P>
Matrix pack(Line<typename P::Weight>& store, const Dense& dense, int first, int inputs) {
    const Matrix matrix{store.size(), dense.rows, inputs};
    for (int tile = 0; tile < dense.rows; tile += TILE)
        for (int input = first; input < first + inputs; input += STEP<P>)
            for (int row = tile; row < std::min(tile + TILE, dense.rows); ++row)
                for (int i = 0; i < STEP<P>; ++i)
                    store.push_back(static_cast<typename P::Weight>(dense.at(row, input + i)));
    return matrix;
}

// scale [rows] of sums whose inputs count `level` for 1
Line<float> scale_of(const Dense& dense, double level) {
    Line<float> scale(dense.rows);
    for (int row = 0; row < dense.rows; ++row) scale[row] = float(dense.scale[row] / level);
    return scale;
}

Line<float> padded_vector(const float* values, int n, int width) {
    Line<float> result(width, 0.0f);
    std::copy(values, values + n, result.begin());
    return result;
}

double largest(const Line<float>& values) {
    double most = 0;
    for (float value : values) most = std::max(most, std::abs(double(value)));
    return most;
}

// Everything that a step computes is bounded, whatever the input, since |z| < 1. So it can be made sure of here that no
// number ever overflows, and the kernels need not look for NaN.
void check_bound(double bound, const std::string& place) {
    if (!(bound < 1e30))
        throw std::invalid_argument("the weights of " + place + " are too large: its outputs could overflow");
}

Dense padded_matrix(const float* values, int rows, int inputs) {
    Dense dense(padded(rows), padded(inputs));
    for (int row = 0; row < rows; ++row)
        for (int input = 0; input < inputs; ++input) dense.at(row, input) = values[std::size_t(row) * inputs + input];
    return dense;
}

}  // namespace

template <class P>
Weights<P>::Weights(const Config& c, const std::function<const float*(const std::string&)>& tensor) : config(c) {
    const int count = c.layers(), gates = c.gate_width(), width = c.residual_width();
    const auto finite = [&](const std::string& name, std::size_t n) {
        const float* values = tensor(name);
        if (!std::all_of(values, values + n, [](float value) { return std::isfinite(value); }))
            throw std::invalid_argument("the weights " + name + " hold NaN or infinity; their training went wrong");
        return values;
    };

    const float* table = finite("embedding.weight", std::size_t(c.rows) * c.residual);
    embedding.assign(std::size_t(c.rows) * width, 0.0f);
    std::vector<double> bound(width, 0.0);  // on |x| of each channel, layer by layer
    for (int row = 0; row < c.rows; ++row)
        for (int i = 0; i < c.residual; ++i) {
            const float value = table[std::size_t(row) * c.residual + i];
            embedding[std::size_t(row) * width + i] = value;
            const double most = std::abs(double(value));
            if (c.output == Output::MU_LAW)
                bound[i] = std::max(bound[i], most);  // x is one of the rows,
            else
                bound[i] += most * (c.order ? MOST_INPUT : 1);  // or the sum of as many times each
        }

    // skip [S, L*G]
    const float* p = finite("skip.weight", std::size_t(c.skip) * count * c.gate);
    Dense skips(c.skip_width(), c.all_gates_width());
    for (int row = 0; row < c.skip; ++row)
        for (int layer = 0; layer < count; ++layer)
            for (int i = 0; i < c.gate; ++i)
                skips.at(row, layer * gates + i) = p[(std::size_t(row) * count + layer) * c.gate + i];

    std::vector<Dense> dilated, residuals;
    for (int layer = 0; layer < count; ++layer) {
        const std::string prefix = "layers." + std::to_string(layer);
        // [K, 2G, R] -> [a | b] x [tap 0 | tap 1 | ...], each part padded
        const float* w = finite(prefix + ".dilated.weight", std::size_t(c.kernel) * 2 * c.gate * c.residual);
        dilated.emplace_back(2 * gates, c.kernel * width);
        for (int tap = 0; tap < c.kernel; ++tap)
            for (int half = 0; half < 2; ++half)
                for (int i = 0; i < c.gate; ++i)
                    for (int j = 0; j < c.residual; ++j)
                        dilated[layer].at(half * gates + i, tap * width + j) = *w++;
        if (layer + 1 < count)
            residuals.push_back(padded_matrix(
                finite(prefix + ".residual.weight", std::size_t(c.residual) * c.gate), c.residual, c.gate));
    }
    Dense hiddens = padded_matrix(finite("head.hidden.weight", std::size_t(c.head) * c.skip), c.head, c.skip);
    Dense outputs = padded_matrix(finite("head.output.weight", std::size_t(c.outputs) * c.head), c.outputs, c.head);

    layers.resize(count);
    gate_bias.assign(std::size_t(count) * 2 * gates, 0.0f);
    if constexpr (INTEGER<P>) {
        skips.round_to_int8();
        gate_level = float(skips.most_levels());
        for (Dense& dense : residuals) {
            dense.round_to_int8();
            gate_level = std::min(gate_level, float(dense.most_levels()));
        }
        hiddens.round_to_int8();
        outputs.round_to_int8();
        skip_levels = float(hiddens.most_levels());
        hidden_levels = float(outputs.most_levels());
    }

    for (int layer = 0; layer < count; ++layer) {
        const std::string prefix = "layers." + std::to_string(layer);
        LayerWeights<P>& own = layers[layer];
        Dense& dense = dilated[layer];
        const float* bias = finite(prefix + ".dilated.bias", 2 * std::size_t(c.gate));
        float* const halves = &gate_bias[std::size_t(layer) * 2 * gates];  // [a | b]
        std::copy(bias, bias + c.gate, halves);
        std::copy(bias + c.gate, bias + 2 * c.gate, halves + gates);
        const double most = *std::max_element(bound.begin(), bound.end());
        check_bound(std::max(most, dense.bound(most)), prefix);
        if constexpr (INTEGER<P>) {
            dense.round_to_int8();
            own.level = most > 0 ? float(dense.most_levels() / most) : 1.0f;
            if (!std::isfinite(own.level) || !(own.level > 0))
                throw std::invalid_argument("the weights up to " + prefix + " are too large or too small for int8");
        }
        own.gate_scale = scale_of(dense, own.level);
        if (layer + 1 == count) break;
        const float* q = finite(prefix + ".residual.bias", c.residual);
        own.residual_bias = padded_vector(q, c.residual, width);
        own.residual_scale = scale_of(residuals[layer], gate_level);
        for (int i = 0; i < c.residual; ++i)
            bound[i] += residuals[layer].bound(i, 1) + std::abs(double(q[i]));
    }

    // In the order of use: first what the past adds to all layers, then layer by layer, then skip and head.
    const int past = c.past_taps() * width;
    for (int layer = 0; layer < count; ++layer) layers[layer].past = pack<P>(store, dilated[layer], 0, past);
    for (int layer = 0; layer < count; ++layer) {
        layers[layer].now = pack<P>(store, dilated[layer], past, width);
        if (layer + 1 < count) layers[layer].residual = pack<P>(store, residuals[layer], 0, gates);
    }
    skip = pack<P>(store, skips, 0, skips.inputs);
    hidden = pack<P>(store, hiddens, 0, hiddens.inputs);
    output = pack<P>(store, outputs, 0, outputs.inputs);
    skip_scale = scale_of(skips, gate_level);
    hidden_scale = scale_of(hiddens, 1);
    output_scale = scale_of(outputs, 1);
    skip_bias = padded_vector(finite("skip.bias", c.skip), c.skip, c.skip_width());
    hidden_bias = padded_vector(finite("head.hidden.bias", c.head), c.head, c.head_width());
    output_bias = padded_vector(finite("head.output.bias", c.outputs), c.outputs, c.output_width());
    const double skip_bound = skips.bound(1) + largest(skip_bias);
    const double hidden_bound = hiddens.bound(skip_bound) + largest(hidden_bias);
    check_bound(outputs.bound(hidden_bound) + largest(output_bias), "head");
}

template struct Weights<Float32>;
template struct Weights<Int8>;

}  // namespace wavenet
