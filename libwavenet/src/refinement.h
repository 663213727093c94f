// Refinement of audio while it is generated: wavenet.consistency.StreamingRefiner, where the algorithm is explained.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mel_transform.h"

namespace wavenet {

// Makes audio agree better with log-mel features. A sample leaves `delay` samples after it has entered. The result does
// not depend on the sizes of the blocks. The work with each frame, `iterations` / depth, rounded up, for each of the windows
// inside, is spread evenly over the samples of the next frame. Nothing allocates memory after the constructor.
// All calls come from one thread. Copyable: a copy continues from the same sample.
class Refinement {
public:
    // iterations: at least as many as each sample takes part in. capacity: frames of features that can be pushed before
    // the audio of the first of them. Fails if windows overlap by less than half, or the iterations take too long.
    Refinement(const MelConfig& mel, int iterations, std::size_t capacity);

    // Adds features [n][bands]; frame 0 begins with the first sample. Returns how many there was room for. Values that
    // are not finite count as silence. A frame must come before the last sample of its audio; as long as it has not come,
    // its window is not corrected.
    std::size_t push(const float* frames, std::size_t n);
    // Adds samples [n], and writes n samples in [-1, 1], the refined ones `delay` later than they came, which may be
    // the same array; at the beginning they are 0. Samples that are not finite count as 0.
    void process(const float* audio, float* refined, std::size_t n);
    // Writes the samples that are still inside, [delay] at most, and begins anew; returns how many.
    std::size_t end(float* refined);
    void reset();  // begins anew

    std::size_t delay() const { return (depth_ + 2) * hop_ - 1; }

private:
    void enter();
    void leave();
    void step();
    void correct(const float* target, std::size_t start);
    std::uint64_t first_window(std::uint64_t position) const;

    MelTransform transform_;
    std::size_t hop_, window_, bands_;
    std::int64_t margin_;                 // samples before a frame's own that its window covers
    std::size_t depth_;                   // frames inside
    std::size_t per_frame_;               // iterations
    std::size_t capacity_;                // frames of features, beyond those that have entered
    std::vector<double> synthesis_;       // [window], the window of the inverse transform
    std::vector<double> log_gains_;       // [bands]
    std::vector<float> features_;         // [slots][bands], a ring buffer: frame n is at n mod slots
    std::vector<double> result_, start_;  // of the last iteration, and of the next: `window` samples that have left,
    std::vector<double> changed_;         // and then those that are inside
    std::vector<double> incoming_;        // [hop], the samples of a frame that has not arrived completely
    std::vector<float> outgoing_;         // [hop], the frame that left last
    std::size_t filled_ = 0;              // samples in `incoming`
    // The iterations with the frame that entered last, each with the same windows:
    std::uint64_t first_ = 0;               // window
    std::size_t windows_ = 0, begin_ = 0;   // their number, and where the first one begins in the signal
    std::size_t steps_ = 0, done_ = 0;      // windows of all iterations, and of those so far
    std::uint64_t pushed_ = 0;              // frames of features
    std::uint64_t entered_ = 0, left_ = 0;  // frames of audio
};

}  // namespace wavenet
