// Log-mel frames of incoming audio: the same as wavenet.features.mel_spectrogram, where the grid of frames is drawn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mel_transform.h"

namespace wavenet {

// Audio before the first sample and after the end is silence. Frame n is complete with the sample n hop + delay - 1.
// Neither `process` nor `end` allocates memory. Copyable.
class MelAnalysis {
public:
    MelAnalysis(const MelConfig& mel, std::size_t max_block);  // samples

    // Adds samples [n], n <= max_block, and writes the frames [frames][bands] that they complete; returns how many.
    // Samples that are not finite count as 0; others are limited, so that audio in [-1, 1] could have the frames.
    std::size_t process(const float* audio, std::size_t n, float* frames);
    // Writes the frames that contain the last samples, and begins anew.
    std::size_t end(float* frames);
    void reset();  // begins anew

    std::size_t room() const { return room_; }  // the most frames that a call writes
    std::size_t delay() const { return delay_; }

private:
    void write(float* frame);

    MelTransform transform_;
    std::size_t delay_, room_;
    std::vector<double> samples_;  // [window], of the next frame, of which
    std::ptrdiff_t filled_ = 0;    // are there; negative: samples to skip before it
    std::uint64_t arrived_ = 0;    // samples
    std::uint64_t written_ = 0;    // frames
};

}  // namespace wavenet
