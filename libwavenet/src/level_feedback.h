// The temperature of a stream without features that keeps the levels of the recordings: the same as
// wavenet/level_session.py, where it is explained.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model_config.h"

namespace wavenet {

class LevelFeedback {
public:
    LevelFeedback(const RecordedLevels& recorded, int sample_rate);

    // The averages begin again, as those of the recordings and after a pause.
    void restart() { running_ = false; }
    // Keeps the levels of a mixture of speakers, shares [speakers] that sum to 1, from now on.
    void speak(const float* shares);
    // Samples from `position` on that have the same temperature.
    std::size_t left(std::uint64_t position) const { return frame_ - std::size_t(position % frame_); }
    // The temperature that the next samples are drawn with, for the one that is wanted.
    double temperature(double wanted);
    // Adds the samples [n] that were drawn with it, n <= left(position).
    void add(const float* samples, std::size_t n, std::uint64_t position);

private:
    RecordedLevels recorded_;
    std::size_t frame_;  // samples between changes of the temperature
    double loud_ = 1,
           silent_ = 0;  // of the recordings: mean power of the frames that are not silent; share of the others
    bool running_ = false;
    double running_loud_ = 1, running_silent_ = 0;  // exponential averages of the stream
    bool paused_ = true;                            // whether the last frame was a pause
    std::int64_t energy_ = 0;                       // of the current frame, in 16-bit steps
    std::size_t length_ = 0;                        // samples of it
};

}  // namespace wavenet
