#include "generator.h"

#include <algorithm>
#include <cmath>

#include "failure.h"

namespace wavenet {
namespace {

Controls initial_controls(const ModelConfig& config) {
    Controls controls;
    controls.temperature = config.sampling.temperature;
    controls.voiced_temperature = config.sampling.voiced_temperature;
    controls.top_k = config.sampling.top_k;
    controls.top_p = config.sampling.top_p;
    controls.frame_temperature = config.sampling.frame_temperature;
    controls.speakers.assign(config.speakers.size(), 0);
    if (!config.speakers.empty()) controls.speakers[0] = 1;
    controls.muted.resize(config.layers(), false);
    return controls;
}

}  // namespace

Generator::Generator(ModelFile file, const std::string& precision)
    : config(std::move(file.config)), quantizer(config.output) {
    const TensorMap tensors = std::move(file.tensors);
    fast_tier = make_fast_tier(
        config.engine_config(), [&](const std::string& name) { return tensors.at(name).data(); }, precision);
    if (config.conditioned()) conditioner = std::make_shared<const Conditioner>(config, tensors);
    if (config.frame_model) frame_model = std::make_shared<const FrameModel>(config, tensors);
}

Stream::Stream(std::shared_ptr<const Generator> generator, std::uint64_t seed)
    : controls(initial_controls(generator->config)),
      generator_(std::move(generator)),
      fast_tier_(generator_->fast_tier->copy()),
      random_(seed),
      uniforms_(PIECE),
      codes_(PIECE) {
    speakers_.reserve(generator_->config.speakers.size());
    if (generator_->conditioner)
        conditioning_ = std::make_unique<ConditioningStream>(generator_->conditioner, WAITING_FRAMES);
    if (generator_->frame_model) {
        frames_ = std::make_unique<FrameSampler>(generator_->frame_model, seed);
        frame_.resize(generator_->config.features->bands);
        frames_->start();
    }
    if (generator_->config.recorded_levels)
        levels_ = std::make_unique<LevelFeedback>(*generator_->config.recorded_levels, generator_->config.sample_rate);
    refine(generator_->config.sampling.refine);
}

Stream::Stream(const Stream& other)
    : controls(other.controls.written()),
      generator_(other.generator_),
      fast_tier_(other.fast_tier_->copy()),
      random_(other.random_),
      generated_(other.generated_),
      returned_(other.position()),
      uniforms_(PIECE),
      codes_(PIECE),
      frame_(other.frame_) {
    speakers_.reserve(generator_->config.speakers.size());
    speakers_ = other.speakers_;
    if (other.conditioning_) conditioning_ = std::make_unique<ConditioningStream>(*other.conditioning_);
    if (other.frames_) frames_ = std::make_unique<FrameSampler>(*other.frames_);
    if (other.refinement_) refinement_ = std::make_unique<Refinement>(*other.refinement_);
    if (other.levels_) levels_ = std::make_unique<LevelFeedback>(*other.levels_);
    ahead_ = other.ahead_;
    shown_ = other.shown_;
    if (refinement_) rest_.reserve(refinement_->delay());
    rest_ = other.rest_;
    rest_read_ = other.rest_read_;
}

// The options that act on tiers of their own; the others are read where they are used.
void Stream::apply(const Controls& now) {
    if (speakers_ != now.speakers) {
        speakers_ = now.speakers;  // as many as before, except at the beginning
        conditioning_->speak(speakers_.data());
        if (frames_) frames_->speak(speakers_.data());
        if (levels_) levels_->speak(speakers_.data());
        if (frames_ && !conditioning_->available(0)) frames_->start();  // the silence before the first frame, too
    }
    if (!frames_) return;
    frames_->set_temperature(now.frame_temperature);
    frames_->set_pitch(now.pitch);
    frames_->set_loudness(now.loudness);
}

void Stream::refine(int iterations) {
    if (generated_) fail("refine: the stream has begun; reset it first");
    if (iterations && !generator_->config.features) fail("refine: this model has no features to compare audio with");
    refinement_ = nullptr;
    if (iterations) {
        const MelConfig& mel = *generator_->config.features;
        const std::size_t frames = PIECE / mel.hop + 2;  // that a piece begins, at most, and the one it is in
        refinement_ = std::make_unique<Refinement>(mel, iterations, frames);
    }
    rest_.reserve(refinement_ ? refinement_->delay() : 0);
}

// Samples that can be generated now with the same frame of features; a slow tier draws frames until there are some.
std::size_t Stream::available() {
    if (!conditioning_) return PIECE;
    while (frames_ && !conditioning_->available(generated_)) {
        frames_->next(frame_.data());
        conditioning_->push(frame_.data(), 1);
    }
    return conditioning_->ready(generated_);
}

std::size_t Stream::generate(float* out, std::size_t n) {
    std::size_t done = 0;
    while (done < n) {
        const Controls& now = controls.read();
        apply(now);
        std::size_t piece = std::min({n - done, PIECE, available()});
        if (!piece) break;
        Sampling sampling;
        const bool other = conditioning_ && !std::isnan(now.voiced_temperature) && conditioning_->voiced();
        sampling.temperature = other ? now.voiced_temperature : now.temperature;
        const bool levelled = levels_ && sampling.temperature != 1 && !sampling.greedy();
        if (levelled) {
            piece = std::min(piece, levels_->left(generated_));
            sampling.temperature = levels_->temperature(sampling.temperature);
        } else if (levels_) {
            levels_->restart();
        }
        sampling.top_k = now.top_k;
        sampling.top_p = now.top_p;
        show_features();
        for (std::size_t i = 0; i < piece; ++i) uniforms_[i] = random_.next();
        fast_tier_->generate(conditioning_.get(), uniforms_.data(), sampling, &now.muted[0], codes_.data(), piece);
        for (std::size_t i = 0; i < piece; ++i) out[done + i] = generator_->quantizer.decode(codes_[i]);
        if (levelled) levels_->add(out + done, piece, generated_);
        done += piece;
        generated_ += piece;
    }
    return done;
}

// Gives refinement the features of the frame that the next samples belong to.
void Stream::show_features() {
    if (!refinement_ || shown_ != generated_ / generator_->config.features->hop) return;
    refinement_->push(conditioning_->current_features(), 1);
    ++shown_;
}

// Gives refinement as many samples as it holds back. Returns whether there were so many.
bool Stream::run_ahead() {
    float piece[PIECE];
    while (ahead_ < refinement_->delay()) {
        const std::size_t count = generate(piece, std::min(refinement_->delay() - ahead_, PIECE));
        refinement_->process(piece, piece, count);
        ahead_ += count;
        if (!count) return false;
    }
    return true;
}

// The same as `generate`, refined.
std::size_t Stream::refined(float* out, std::size_t n) {
    std::size_t done = 0;
    while (done < n) {
        if (rest_read_ < rest_.size()) {  // after the end
            const std::size_t count = std::min(n - done, rest_.size() - rest_read_);
            std::copy_n(rest_.begin() + rest_read_, count, out + done);
            rest_read_ += count;
            done += count;
            continue;
        }
        const std::size_t count = run_ahead() ? generate(out + done, std::min(n - done, PIECE)) : 0;
        refinement_->process(out + done, out + done, count);
        done += count;
        if (count) continue;
        if (!ahead_ || !conditioning_->finished(generated_)) break;
        rest_.resize(refinement_->delay());
        rest_.resize(refinement_->end(rest_.data()));
        rest_read_ = rest_.size() - ahead_;  // before them are samples that the stream was primed with
        ahead_ = 0;
    }
    return done;
}

std::size_t Stream::process(float* out, std::size_t n) {
    const std::size_t done = refinement_ ? refined(out, n) : generate(out, n);
    std::fill(out + done, out + n, 0.0f);
    returned_.store(returned_.load(std::memory_order_relaxed) + done, std::memory_order_relaxed);
    return done;
}

void Stream::seed(std::uint64_t seed) {
    random_ = Pcg64(seed);
    if (frames_) frames_->reseed(seed);
}

void Stream::prepare(int threads) {
    threads_ = threads;
    fast_tier_->prepare(threads);
    apply(controls.read());
    if (refinement_) run_ahead();
    else if (frames_) available();
}

void Stream::reset(std::uint64_t seed) {
    fast_tier_ = generator_->fast_tier->copy();
    if (threads_ != 1) fast_tier_->prepare(threads_);
    if (conditioning_) conditioning_->reset();
    if (frames_) {
        frames_->reseed(seed);
        frames_->start();
    }
    random_ = Pcg64(seed);
    generated_ = 0;
    returned_ = 0;
    if (refinement_) refinement_->reset();
    if (levels_) levels_->restart();
    ahead_ = shown_ = rest_read_ = 0;
    rest_.clear();
}

// The log-mel frames [n][bands] of audio from the first sample on whose windows lie inside it.
std::vector<float> Stream::frames_inside(const float* audio, std::size_t n) const {
    const MelConfig& mel = *generator_->config.features;
    MelAnalysis analysis(mel, n);
    std::vector<float> frames(2 * analysis.room() * mel.bands);
    const std::size_t written = analysis.process(audio, n, frames.data());  // those that the samples complete
    frames.resize(written * mel.bands);
    return frames;
}

// For a slow tier only before the first sample: later ones are conditioned on frames that were drawn ahead.
void Stream::prime(const float* audio, std::size_t n) {
    if ((frames_ || refinement_) && position()) fail("prime: this stream has begun; reset it first");
    if ((frames_ && conditioning_->available(0)) || ahead_) fail("prime: this stream was prepared; reset it first");
    if (generator_->needs_features() && conditioning_->available(generated_) < n)
        fail("prime: the features that were pushed end before the audio does; push those of all of it first");
    const Controls& now = controls.read();
    apply(now);
    if (levels_) levels_->restart();
    std::vector<float> clip;
    std::size_t given = 0;
    if (frames_ && n) {
        std::vector<float> heard(n);  // as the network is given it
        for (std::size_t i = 0; i < n; ++i)
            heard[i] = generator_->quantizer.decode(generator_->quantizer.encode(audio[i]));
        clip = frames_inside(heard.data(), n);
        const std::size_t bands = frame_.size(), count = clip.size() / bands;
        const std::size_t used = std::min<std::size_t>(count, generator_->config.frame_model->receptive_field());
        frames_->start();
        if (used) frames_->prime(&clip[(count - used) * bands], used);
    }
    for (std::size_t done = 0; done < n;) {
        while (given < clip.size() && !conditioning_->available(generated_)) {
            conditioning_->push(&clip[given], 1);
            given += frame_.size();
        }
        const std::size_t piece = std::min({n - done, PIECE, available()});
        show_features();
        float ignored[PIECE];
        if (refinement_) refinement_->process(audio + done, ignored, piece);
        for (std::size_t i = 0; i < piece; ++i) codes_[i] = generator_->quantizer.encode(audio[done + i]);
        fast_tier_->feed(conditioning_.get(), &now.muted[0], codes_.data(), piece);
        done += piece;
        generated_ += piece;
    }
}

}  // namespace wavenet
