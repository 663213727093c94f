// The conditioning of one stream whose features arrive frame after frame, from another thread if necessary.
//
//     pushing thread    push, push, ..., end         frame n is that of the samples n hop ... (n + 1) hop - 1
//     processing one    ready(t): the gate biases and the predictor of sample t and some after it, for the engine
//
// Neither waits for the other, allocates, or calls the system. Frames before the first one and after the end are silent.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "conditioner.h"

namespace wavenet {

class ConditioningStream : public Conditioning {
public:
    // capacity: frames that can wait, 1 at least. The speaker is the first one until `speak`.
    ConditioningStream(std::shared_ptr<const Conditioner> conditioner, std::size_t capacity);
    // By the processing thread, or while there is none. The copy has the frames that wait here.
    ConditioningStream(const ConditioningStream& other);
    ConditioningStream& operator=(const ConditioningStream&) = delete;

    // By the pushing thread, one at a time. Frames [n][bands] of log-mel features; returns how many of them there was
    // room for. Values that no audio has, NaN among them, are limited to those that it can have.
    std::size_t push(const float* frames, std::size_t n);
    // No frames follow, those of later calls are ignored.
    void end();
    bool ended() const { return ended_.load(std::memory_order_relaxed); }  // likewise

    // By the processing thread. Positions never decrease.
    // How many samples from `position` on can be generated with the frames that were pushed.
    std::uint64_t available(std::uint64_t position) const;
    // Computes what the samples from `position` on are conditioned on, up to the end of the half frame at most. Returns
    // their number, 0 if features are missing or have ended. From then on, offsets count from `position`. The work is
    // that of one frame, and a little for every frame that the position has advanced by or, at the first sample, that the
    // network looks ahead.
    std::size_t ready(std::uint64_t position);
    // The same before the samples are needed: frames that are not are dropped, which makes room for others.
    void advance(std::uint64_t position) { ready(position); }
    // Whether no frames follow, and all samples before `position` were those of the features.
    bool finished(std::uint64_t position) const {
        return ended_.load(std::memory_order_acquire) && !available(position);
    }
    // The features [bands] of the frame with the sample at the position of `ready`.
    const float* current_features() const { return features(state_.current); }
    // Whether the sample at the position of `ready` is in a voiced frame.
    bool voiced() const;
    // The shares [speakers] of the speakers, which sum to 1, from the position of `ready` on.
    void speak(const float* shares);
    // Starts again, with the same speakers and without frames. Not beside `push` and `end`.
    void reset();

    GateBiases biases(int first, std::size_t offset) const override;
    const double* predictor(int stream, std::size_t offset) const override;
    bool fits(int streams, std::size_t samples) const override { return streams == 1 && samples <= state_.ready; }

private:
    // What the processing thread has computed.
    struct State {
        std::uint64_t position = 0;  // of the last `ready`
        std::size_t ready = 0;       // samples from there on
        std::int64_t taken = 0;      // frames taken out of the ring
        std::int64_t appended = 0;   // frames appended to the history: also silent ones, after the end
        std::int64_t computed = -2;  // the last frame with gate biases; -1: that before the first one
        std::int64_t current = -1;   // the frame of the position
        FrameNetwork::History history;
        std::vector<float> recent;      // [after + 2][bands], ring of frames: the current one and those after it
        AlignedVector<float> channels;  // [2][channels] of the last two frames with gate biases
        AlignedVector<float> biases;    // [2][width], and those
        AlignedVector<float> shared;    // [width], gate biases of all frames
        std::vector<float> embedded;    // [speaker channels]
        std::vector<double> predictor;  // [order + 3] of the current frame
        FramePredictor::Workspace workspace;
        std::optional<FramePredictor::Pitch> pitch;  // of the current frame, if it is known
    };
    State start() const;
    bool append();
    void project(std::int64_t frame);
    void enter(std::int64_t frame);
    const float* features(std::int64_t frame) const { return &state_.recent[frame % (after_ + 2) * bands_]; }
    std::size_t slot(std::size_t frame) const { return (frame & (slots_ - 1)) * bands_; }

    const std::shared_ptr<const Conditioner> conditioner_;
    const int bands_, hop_, after_;       // after: frames that the frame network looks ahead
    const std::size_t capacity_, slots_;  // slots: of the ring, a power of two

    // Between the threads: a ring of frames. Each counter is written by one thread only.
    std::vector<float> waiting_;                     // [slots][bands]
    std::atomic<std::size_t> pushed_{0}, taken_{0};  // frames so far
    std::atomic<bool> ended_{false};

    mutable State state_;  // mutable: `voiced` keeps its result
};

}  // namespace wavenet
