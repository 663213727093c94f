// The shape of a network, as wavenet/config.py has it, and the widths padded to whole panels.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kernels.h"

namespace wavenet {

// What the head's numbers are: logits of mu-law codes, or a distribution over 16-bit samples.
enum class Output { MU_LAW, LOGISTIC, GAUSSIAN };
constexpr double FULL_SCALE = 32768;  // steps of 16-bit samples in 1.0

struct Config {
    int kernel;      // taps K
    int residual;    // R
    int gate;        // G
    int skip;        // S
    int head;        // H
    Output output;
    int parts;       // of a 16-bit output's distribution: so many means and log scales
    int rows;        // of the embedding: one for each mu-law code, or for each number that a 16-bit network is given
    int order;       // of the linear predictor beside a 16-bit network; 0: none
    int pitch_taps;  // of what it left over a pitch period ago, the network is given so many samples
    int pitch_reach; // samples back to the oldest of them
    bool conditioned;  // whether the gates' biases are told, instead of the layers' own
    int hop;         // samples per frame of what is told; 0: it is the same all the time
    int silence;     // the first input
    int outputs;     // A
    std::vector<int> dilations;  // of each layer

    int layers() const { return int(dilations.size()); }
    int past_taps() const { return kernel - 1; }
    int residual_width() const { return padded(residual); }
    int gate_width() const { return padded(gate); }
    int skip_width() const { return padded(skip); }
    int head_width() const { return padded(head); }
    int output_width() const { return padded(outputs); }
    int skip_tiles() const { return (skip_width() + TILE - 1) / TILE; }
    int all_gates_width() const { return layers() * gate_width(); }

    // How many samples before the current one a tap of the layer looks; tap 0 is the oldest, the last one looks at none.
    std::size_t back(int layer, int tap) const { return std::size_t(kernel - 1 - tap) * dilations[layer]; }
};

}  // namespace wavenet
