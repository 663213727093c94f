// One sample, divided into operations that different threads can run:
//
//     prepare     gate biases of the sample; inputs of a 16-bit network
//     past(l)     the sums of layer l's past taps, which depend on earlier samples only; must run before the layer's new
//                 input is written, which may overwrite its oldest one
//     embed       previous code, or those inputs -> x of layer 0
//     layer(l)    past(l) + the current x -> z of layer l, x of layer l + 1
//     skip        skip sums over some of the layers, for some of the rows
//     head        skip sums -> output parameters
//
// Any thread may run an operation whose inputs are ready; the results are the same to the last bit.
#pragma once

#include "kernels/kernels.h"
#include "state.h"
#include "weights.h"

namespace wavenet {

template <class P>
class Step {
public:
    Step(const Weights<P>& weights, const Kernels& kernels)
        : weights_(weights), config_(weights.config), kernels_(P::arithmetic(kernels)) {}

    using Input = typename P::Input;
    using Sum = typename P::Sum;

    // conditioning: see Request; `first`: index of the group's first stream there; `offset`: of the sample in the chunk
    void prepare(Queues<P>& queues, StepBuffers<P>& buffers, const Conditioning* conditioning, int first,
                 std::size_t offset) const;
    // sums [streams][2G]
    void past(Queues<P>& queues, Sum* sums, int layer, std::uint64_t t) const;
    void embed(Queues<P>& queues, StepBuffers<P>& buffers, std::uint64_t t) const;
    // sums: those of past; overwritten. z of a muted layer is 0.
    void layer(Queues<P>& queues, StepBuffers<P>& buffers, Sum* sums, int layer, std::uint64_t t) const;
    // z [streams][L*G] -> sums [streams][S]: row tiles [tile, last_tile), layers [layer, last_layer); layer 0 starts
    // the sums.
    void skip(int streams, const Input* z, Sum* sums, int tile, int last_tile, int layer, int last_layer) const;
    void head(const Queues<P>& queues, StepBuffers<P>& buffers) const;

private:
    void embed_inputs(const float* inputs, float* row) const;
    void multiply(const Matrix& matrix, int first, int inputs, const Input* x, std::size_t x_stride, Sum* y,
                  std::size_t y_stride, int streams, bool fresh, int tile, int last_tile) const;
    void multiply(const Matrix& matrix, const Input* x, std::size_t x_stride, Sum* y, std::size_t y_stride, int streams,
                  bool fresh) const {
        multiply(matrix, 0, matrix.inputs, x, x_stride, y, y_stride, streams, fresh, 0, matrix.tiles());
    }

    const Weights<P>& weights_;
    const Config& config_;
    const Arithmetic<typename P::Weight, typename P::Input, typename P::Sum>& kernels_;
};

extern template class Step<Float32>;
extern template class Step<Int8>;

}  // namespace wavenet
