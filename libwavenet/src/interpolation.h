// Linear interpolation of conditioning frames to the sample rate, as in wavenet/nn/interpolation.py: the values of a
// frame apply at its centre.
#pragma once

namespace wavenet {

struct Interpolation {
    int from;        // -1: the values are between those of the previous frame and the sample's own; 0: own and next
    float fraction;  // 0: those of the first of the two; below 1
};

// Of a sample of a frame, 0 <= sample < hop.
inline Interpolation interpolation(int sample, int hop) {
    const int twice = 2 * sample - (hop - 1);  // the distance from the centre, in half samples
    return {twice < 0 ? -1 : 0, float(double(twice < 0 ? twice + 2 * hop : twice) / (2.0 * hop))};
}

}  // namespace wavenet
