// A model that is ready to generate, and its streams: everything from the model file to samples.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "conditioner.h"
#include "conditioning_stream.h"
#include "controls.h"
#include "fast_tier.h"
#include "frame_sampler.h"
#include "level_feedback.h"
#include "mel_analysis.h"
#include "model_file.h"
#include "quantizer.h"
#include "random.h"
#include "refinement.h"

namespace wavenet {

// Immutable, shared by its streams.
class Generator {
public:
    // Fails for a precision other than "f32" and "int8", and as `Weights` does.
    Generator(ModelFile file, const std::string& precision);

    ModelConfig config;
    Quantizer quantizer;
    std::unique_ptr<const FastTier> fast_tier;       // at its first sample
    std::shared_ptr<const Conditioner> conditioner;  // null: the network is not conditioned
    std::shared_ptr<const FrameModel> frame_model;   // null: there is no slow tier
    bool needs_features() const { return config.features && !frame_model; }
};

// One voice. Nothing in `process` and `push` allocates, locks or calls the system.
class Stream {
public:
    Stream(std::shared_ptr<const Generator> generator, std::uint64_t seed);
    // Continues from the same sample with the same random numbers, on one thread.
    Stream(const Stream& other);
    Stream& operator=(const Stream&) = delete;

    // The next n samples. Returns how many there are: less than n where features are missing; the rest is silence.
    std::size_t process(float* out, std::size_t n);
    // Frames [n][bands] for a generator that needs features; returns how many there was room for.
    std::size_t push(const float* frames, std::size_t n) { return conditioning_->push(frames, n); }
    void end() { conditioning_->end(); }
    bool ended() const { return conditioning_->ended(); }  // by the thread that pushes

    // Draws with the random numbers of this seed from now on.
    void seed(std::uint64_t seed);
    // Of the newest sample: see FastTier.
    void gates(float* z) const { fast_tier_->gates(z); }
    void watch(int layer) { fast_tier_->watch(layer); }
    void watched(float* ab) const { fast_tier_->watched(ab); }

    // Not in real time:
    void prepare(int threads);
    void prime(const float* audio, std::size_t n);
    void reset(std::uint64_t seed);
    // Iterations of refinement from the first sample on; 0: none. Before the first sample.
    void refine(int iterations);

    std::uint64_t position() const { return returned_.load(std::memory_order_relaxed); }
    const Generator& generator() const { return *generator_; }
    ControlExchange controls;

private:
    std::size_t generate(float* out, std::size_t n);
    std::size_t refined(float* out, std::size_t n);
    bool run_ahead();
    void show_features();
    std::vector<float> frames_inside(const float* audio, std::size_t n) const;
    std::size_t available();
    void apply(const Controls& controls);

    static constexpr std::size_t PIECE = 64;             // samples between looks at the controls, at most
    static constexpr std::size_t WAITING_FRAMES = 1024;  // that were pushed and not used yet, at most

    std::shared_ptr<const Generator> generator_;
    std::unique_ptr<FastTier> fast_tier_;
    std::unique_ptr<ConditioningStream> conditioning_;  // null: none
    std::unique_ptr<FrameSampler> frames_;              // null: no slow tier
    std::unique_ptr<Refinement> refinement_;            // null: none
    std::unique_ptr<LevelFeedback> levels_;             // null: the temperature is the one that is set
    int threads_ = 1;                                   // 0: the fastest number
    Pcg64 random_;
    std::uint64_t generated_ = 0;             // samples of the network, primed ones included
    std::atomic<std::uint64_t> returned_{0};  // samples given to the caller
    std::vector<float> speakers_;             // shares that the tiers use now
    std::vector<double> uniforms_;            // [PIECE]
    std::vector<std::int64_t> codes_;         // [PIECE]
    std::vector<float> frame_;                // [bands], a drawn one
    // of refinement, which runs ahead by its delay
    std::size_t ahead_ = 0;    // samples that it has been given without giving any back
    std::uint64_t shown_ = 0;  // frames of features that it has been given
    std::vector<float> rest_;  // after the end of the features: the samples that are still inside
    std::size_t rest_read_ = 0;
};

}  // namespace wavenet
