// The slow tier: draws log-mel frames, one after the other, from a frame model. The same as
// wavenet/engine/frame_sampler.py for one stream, where it is explained: the same frames for a seed, to float rounding.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "frame_coding.h"
#include "frame_step.h"
#include "random.h"

namespace wavenet {

// As in Python, where they are explained.
constexpr int CANDIDATES = 8;
constexpr double PERIODIC = 0.15;
constexpr double DRIFT_SECONDS = 3.0;
constexpr float VOICING_FEEDBACK = 12.0f;
constexpr float MEAN_FEEDBACK = 0.5f;
constexpr int START_FRAMES = 50;  // of silence, which a stream continues

// Immutable, shared by its streams.
class FrameModel {
public:
    // Of a model of two tiers. Fails for tensors that do not fit the configuration.
    FrameModel(const ModelConfig& config, const TensorMap& tensors);
    // voices: 0 for a single one. voiced: share of voiced frames in the recordings of each voice; none: streams drift.
    FrameModel(const FrameModelConfig& config, const MelConfig& mel, int voices, const std::vector<double>& voiced,
               const TensorMap& tensors);

    const FrameModelNetwork network;
    const FrameCoding coding;
    const int voices;
    const std::vector<float> voiced;  // [max(1, V)], or none
};

// One stream. Only the constructors and assignments allocate.
class FrameSampler {
public:
    // A stream that has no frames before its first, at temperature 1. It speaks with the first voice.
    FrameSampler(std::shared_ptr<const FrameModel> model, std::uint64_t seed);

    // Draws the next log-mel frame [bands]. The work is the same for all frames, but for the candidates of the shape.
    void next(float* frame);
    // Continues after log-mel frames [n][bands], as if they had been drawn. Fails for frames that are not finite.
    void prime(const float* frames, std::size_t n);
    // Continues as if there had been no frame before, with the next random numbers.
    void restart();
    // Continues silence, with the next random numbers, as a new session does.
    void start();
    void reseed(std::uint64_t seed) { random_ = Pcg64(seed, 1); }

    // From the next frame on:
    void set_temperature(double temperature) { temperature_ = float(temperature); }  // of the deviations of the shape
    void set_pitch(double hertz) { pitch_ = hertz; }                                 // of voiced frames; NaN: drawn
    void set_loudness(double decibels) { loudness_ = decibels; }                     // in dBFS; NaN: drawn
    std::size_t bands() const { return model_->coding.mel().bands; }
    std::size_t voices() const { return model_->voices; }
    void speak(const float* shares);  // a mixture of voices [V]; nothing for a model of a single voice

private:
    struct Wanted {
        float loudness, pitch;  // encoded; NaN: drawn
    };
    int uniforms_per_frame() const;
    void draw();
    void draw_uniforms();
    void draw_source(const Wanted& wanted, float* source);
    void draw_shape(const float* source);
    void follow(const float* source, const Wanted& wanted);
    void set_level(std::vector<float>& encoded);

    std::shared_ptr<const FrameModel> model_;
    Pcg64 random_;
    float temperature_ = 1;
    double pitch_ = std::numeric_limits<double>::quiet_NaN(), loudness_ = pitch_;
    FrameVoice voice_;
    std::vector<float> gate_biases_;
    float share_ = 0;   // of voiced frames in the recordings of this voice
    float decay_;       // of the drift, from frame to frame
    FrameState state_;  // of the frames before the last one
    bool has_last_ = false;
    std::vector<float> last_;      // [D], drawn or given, and not yet in the state
    std::vector<float> returned_;  // [D], the same with the temperature
    // Exponential averages of the differences between the last frames and the recordings, see `Drift` in Python.
    float drift_voiced_ = 0, drift_loudness_ = 0, drift_pitch_ = 0;
    // Buffers of a frame:
    std::vector<double> uniforms_;    // [uniforms_per_frame]
    std::vector<float> noise_;        // standard normal numbers
    std::vector<double> cumulative_;  // [mixture components]
    std::vector<float> candidate_;    // [D]
    std::vector<float> candidate_returned_;
    FrameScratch scratch_;
};

}  // namespace wavenet
