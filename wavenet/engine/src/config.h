// The shape of a network, as wavenet/config.py has it, and the widths padded to whole panels.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kernels.h"

namespace wavenet {

struct Config {
    int kernel;      // taps K
    int residual;    // R
    int gate;        // G
    int skip;        // S
    int head;        // H
    int codes;       // rows of the embedding table
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
