// The frame network: normalised features of a frame and its neighbours -> conditioning channels of that frame, as in
// wavenet/nn/frame_network.py, where its kinds are explained. Computed frame after frame, in a fixed order of sums.
#pragma once

#include <string>

#include "aligned_vector.h"
#include "kernels/kernels.h"
#include "model_file.h"

namespace wavenet {

constexpr int PLAIN_TAPS = 3;      // of every convolution at frame rate
constexpr int POOLED_FRAMES = 64;  // to each side that the pooling branch averages over

// Frames before and after its own that the network's output for a frame depends on.
struct FrameContext {
    int before, after;
};
FrameContext frame_context(FrameNetworkKind kind);

// A matrix in the layout of `FrameProduct`, padded with zeros to whole tiles.
class FrameMatrix {
public:
    FrameMatrix() = default;
    // weight(row, input), and for padding rows 0
    template <class Weight>
    FrameMatrix(int rows, int inputs, Weight weight) : rows_((rows + TILE - 1) / TILE * TILE), inputs_(inputs) {
        weights_.assign(std::size_t(rows_) * inputs, 0.0f);
        for (int row = 0; row < rows; ++row)
            for (int input = 0; input < inputs; ++input)
                weights_[(std::size_t(row / TILE) * inputs + input) * TILE + row % TILE] = weight(row, input);
    }
    int rows() const { return rows_; }  // padded
    // y [frames][rows] += W x [frames][inputs]
    void multiply(const Kernels& kernels, const float* x, std::size_t x_stride, float* y, std::size_t y_stride,
                  int frames) const {
        kernels.frame_product({weights_.data(), rows_, inputs_, x, x_stride, y, y_stride, frames});
    }

private:
    int rows_ = 0, inputs_ = 0;
    AlignedVector<float> weights_;
};

class FrameNetwork {
public:
    FrameNetwork(const ModelConfig& config, const TensorMap& tensors);

    // The past of one stream as far as it is needed, and memory for calculations. A copy continues independently.
    struct History {
        int newest = 0;                 // place of the newest frame in the rings
        AlignedVector<float> frames;    // [ring][bands], normalised
        AlignedVector<float> hidden;    // plain kinds: [ring][channels of the first convolution, padded]
        AlignedVector<float> mean;      // parallel: [bands]
        AlignedVector<float> sums;      // parallel: [channels of a branch, padded]
        AlignedVector<float> branches;  // parallel: [branches][channels of a branch]
    };

    const FrameContext& context() const { return context_; }
    int channels() const { return int(last_.bias.size()); }  // of the output, padded
    // A history in which all frames are silent.
    History silence() const;
    // Adds a frame [bands] of log-mel features.
    void append(History& history, const float* frame) const;
    // The channels of the frame that is `context().after` frames before the newest one.
    void output(History& history, float* channels) const;

private:
    struct Convolution {
        std::vector<FrameMatrix> taps;  // the oldest first
        int dilation = 1;
        AlignedVector<float> bias;  // padded
    };
    static Convolution convolution(const TensorMap& tensors, const std::string& name, int inputs, int outputs,
                                   int taps = 1, int dilation = 1);
    // y = relu of the convolution of frames, of which x(age) is `age` frames older than the newest one
    template <class Frames>
    void convolve(const Convolution& convolution, int age_of_last, Frames x, float* y) const;
    // The place in the rings of the frame that is `age` frames older than the newest one.
    int place(const History& history, int age) const { return (history.newest + ring_ - age) % ring_; }

    const Kernels& kernels_;
    const FrameContext context_;
    const int bands_, ring_;  // ring: frames in a history
    const float mean_, deviation_, silence_;
    std::vector<Convolution> branches_;  // plain kinds: the first convolution; parallel: all branches
    int branch_channels_ = 0;            // 0: plain kinds
    Convolution last_;
};

}  // namespace wavenet
