// What a conditioned network is told: the biases of all gates, frame by frame, in the place of the layers' own; and the
// predictors of those frames. Made when a chunk of frames begins, and only read from then on.
#pragma once

#include <cstddef>
#include <vector>

#include "config.h"
#include "weights.h"

namespace wavenet {

// The gates' biases of one sample: `along` of the way from one row to the other, for every stream [L][2G].
struct Biases {
    const float* from = nullptr;
    const float* to = nullptr;
    float along = 0;
    std::size_t stride = 0;  // from stream to stream; 0: all have the same
};

class Told {
public:
    // rows [streams][frames][L][2 gate]: one frame that says the same all the time, or a chunk and one frame more to
    // each side. predictors [streams][frames - 2][order + 3], where the configuration has an order.
    // Throws std::invalid_argument where they are not numbers.
    Told(const Config& config, int streams, int frames, const float* rows, const double* predictors);

    // The biases of the streams from `first` on, `offset` samples from the start of the chunk.
    Biases biases(int first, std::size_t offset) const;
    // A stream's predictor there: [order + 3].
    const double* predictor(int stream, std::size_t offset) const;
    // Whether it says something about samples up to this one, counted from the start of the chunk.
    bool reaches(std::size_t samples) const { return frames_ == 1 || samples <= std::size_t(frames_ - 2) * hop_; }

    const int streams;

private:
    const int frames_, hop_, order_;
    const std::size_t width_;         // L * 2G
    Line<float> biases_;              // [frames][streams][L][2G]
    std::vector<double> predictors_;  // [streams][frames - 2][order + 3]
};

}  // namespace wavenet
