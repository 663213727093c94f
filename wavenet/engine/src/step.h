// One sample, in the pieces that threads can share:
//
//     listen      what the sample begins with: the gates' biases, the numbers that a 16-bit network is given
//     past(l)     what the inputs before this sample add to layer l's gate: known as soon as the last sample is done;
//                 to be made before the layer's new input, which may take the place of its oldest one
//     embed       the code of the last sample, or those numbers -> x of layer 0
//     layer(l)    past(l) + the current x -> z of layer l, x of layer l + 1
//     skip        sums of z over some of the layers, for some of the rows
//     head        skip sums -> logits
//
// A thread may do any piece whose inputs are there; the numbers are the same to the last bit.
#pragma once

#include "kernels/kernels.h"
#include "state.h"
#include "weights.h"

namespace wavenet {

template <class P>
class Step {
public:
    Step(const Weights<P>& weights, const Kernels& kernels)
        : weights_(weights), config_(weights.config), do_(P::arithmetic(kernels)) {}

    using Input = typename P::Input;
    using Sum = typename P::Sum;

    // told: see Request; `first` is the place of the first stream there, `offset` that of the sample.
    void listen(Queues<P>& queues, Scratch<P>& scratch, const Told* told, int first, std::size_t offset) const;
    // sums: the layer's part of Scratch::past, [streams][2G]
    void past(Queues<P>& queues, Sum* sums, int layer, std::uint64_t t) const;
    void embed(Queues<P>& queues, Scratch<P>& scratch, std::uint64_t t) const;
    // Uses up the sums of past.
    void layer(Queues<P>& queues, Scratch<P>& scratch, Sum* sums, int layer, std::uint64_t t) const;
    // z [streams][L*G] -> sums [streams][S]: tiles [tile, last_tile) of the rows, layers [layer, last_layer); starts
    // the sums with layer 0.
    void skip(int streams, const Input* z, Sum* sums, int tile, int last_tile, int layer, int last_layer) const;
    void head(const Queues<P>& queues, Scratch<P>& scratch) const;

private:
    void multiply(const Matrix& matrix, int first, int inputs, const Input* x, std::size_t x_stride,
                  Sum* y, std::size_t y_stride, int streams, bool fresh, int tile, int last_tile) const;
    void multiply(const Matrix& matrix, const Input* x, std::size_t x_stride, Sum* y,
                  std::size_t y_stride, int streams, bool fresh) const {
        multiply(matrix, 0, matrix.inputs, x, x_stride, y, y_stride, streams, fresh, 0, matrix.tiles());
    }

    const Weights<P>& weights_;
    const Config& config_;
    const Arithmetic<typename P::Weight, typename P::Input, typename P::Sum>& do_;
};

extern template class Step<Float32>;
extern template class Step<Int8>;

}  // namespace wavenet
