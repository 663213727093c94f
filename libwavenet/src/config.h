// The dimensions of a network, as in wavenet/config.py, and the widths padded to whole panels.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kernels.h"

namespace wavenet {

// What the output parameters describe: logits of mu-law codes, or a distribution over 16-bit samples.
enum class Output { MU_LAW, LOGISTIC, GAUSSIAN };
constexpr double FULL_SCALE = 32768;  // 16-bit steps in 1.0

struct Config {
    int kernel_size;  // K
    int residual;     // R, channels
    int gate;         // G
    int skip;         // S
    int head;         // H
    Output output;
    int components;          // mixture components of a 16-bit output, each with a mean and a log scale
    int input_channels;      // rows of the embedding: one per mu-law code, or one per input of a 16-bit network
    int prediction_order;    // of the linear predictor of a 16-bit network; 0: none
    int pitch_taps;          // prediction residuals around one pitch period earlier that are inputs of the network
    int pitch_reach;         // samples back to the oldest residual that they can use
    int adaptation_hop = 0;  // samples between updates of a backward-adaptive predictor; 0: it comes with the frames
    std::vector<double> adaptation_weights;  // its window, the oldest sample first
    bool conditioned;                        // whether gate biases come from conditioning frames instead of the layers
    int hop;                                 // samples per conditioning frame; 0: the conditioning is constant
    int silence;                             // the first input code
    int output_channels;                     // A
    std::vector<int> dilations;              // of each layer

    int layers() const { return int(dilations.size()); }
    int past_taps() const { return kernel_size - 1; }
    int residual_width() const { return padded(residual); }
    int gate_width() const { return padded(gate); }
    int skip_width() const { return padded(skip); }
    int head_width() const { return padded(head); }
    int output_width() const { return padded(output_channels); }
    int skip_tiles() const { return (skip_width() + TILE - 1) / TILE; }
    int all_gates_width() const { return layers() * gate_width(); }

    // Samples between a tap's input and the current one. Tap 0 is the oldest, the last tap reads the current sample.
    std::size_t delay(int layer, int tap) const { return std::size_t(kernel_size - 1 - tap) * dilations[layer]; }
};

}  // namespace wavenet
