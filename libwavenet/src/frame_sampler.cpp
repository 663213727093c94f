#include "frame_sampler.h"

#include <algorithm>
#include <cmath>

#include "failure.h"

namespace wavenet {
namespace {

constexpr double PI = 3.14159265358979323846;

// Box and Muller 1958: standard normal numbers [n] for uniform ones [n], n even.
void normal(const double* uniforms, std::size_t n, float* numbers) {
    const std::size_t half = n / 2;
    for (std::size_t i = 0; i < half; ++i) {
        const double radius = std::sqrt(-2 * std::log1p(-uniforms[i])), angle = 2 * PI * uniforms[half + i];
        numbers[i] = float(radius * std::cos(angle));
        numbers[half + i] = float(radius * std::sin(angle));
    }
}

// The mixture component that a uniform number selects; cumulative [count]: sums of the weights.
int choose(const std::vector<double>& cumulative, int count, double uniform) {
    const double wanted = uniform * cumulative[count - 1];
    for (int i = 0; i < count; ++i)
        if (cumulative[i] > wanted) return i;
    return 0;
}

}  // namespace

FrameModel::FrameModel(const ModelConfig& config, const TensorMap& tensors)
    : FrameModel(*config.frame_model, *config.features, int(config.speakers.size()),
                 config.training_range ? config.training_range->voiced : std::vector<double>(), tensors) {}

FrameModel::FrameModel(const FrameModelConfig& config, const MelConfig& mel, int voices,
                       const std::vector<double>& voiced, const TensorMap& tensors)
    : network(config, voices, tensors),
      coding(config, mel, voices, tensors),
      voices(voices),
      voiced(voiced.begin(), voiced.end()) {
    if (!voiced.empty() && voiced.size() != std::size_t(std::max(1, voices)))
        fail("training_range.voiced must have a share for each voice");
}

FrameSampler::FrameSampler(std::shared_ptr<const FrameModel> model, std::uint64_t seed)
    : model_(std::move(model)),
      random_(seed, 1),
      voice_(model_->coding.new_voice()),
      gate_biases_(model_->network.gate_bias_size()),
      state_(model_->network.new_state()),
      uniforms_(uniforms_per_frame()),
      noise_(uniforms_.size() - 2 - CANDIDATES),
      scratch_(model_->coding.new_scratch()) {
    const FrameModelConfig& config = model_->network.config;
    const MelConfig& mel = model_->coding.mel();
    decay_ = float(std::exp(-double(mel.hop) / mel.sample_rate / DRIFT_SECONDS));
    for (auto* frame : {&last_, &returned_, &candidate_, &candidate_returned_}) frame->resize(config.dimensions());
    cumulative_.resize(std::max(config.mixtures, config.source_mixtures));
    std::vector<float> first(model_->voices);
    if (!first.empty()) first[0] = 1;
    speak(first.data());
}

int FrameSampler::uniforms_per_frame() const {
    const int deviations = 2 + model_->network.config.components * CANDIDATES;
    return 2 + CANDIDATES + deviations + deviations % 2;
}

void FrameSampler::speak(const float* shares) {
    const std::vector<float>& voiced = model_->voiced;
    if (!model_->voices) shares = nullptr;
    model_->coding.set_voice(shares, voice_);
    model_->network.gate_biases(shares, gate_biases_.data());
    if (voiced.empty()) return;
    share_ = shares ? 0 : voiced[0];
    for (int v = 0; v < model_->voices; ++v) share_ += shares[v] * voiced[v];
}

void FrameSampler::restart() {
    model_->network.reset(state_);
    has_last_ = false;
    std::fill(last_.begin(), last_.end(), 0.0f);
    drift_voiced_ = drift_loudness_ = drift_pitch_ = 0;
}

void FrameSampler::start() {
    restart();
    std::vector<float>& silent = scratch_.frame;  // which encoding it does not change
    std::fill(silent.begin(), silent.end(), model_->coding.mel().silence());
    for (int i = 0; i < START_FRAMES; ++i) prime(silent.data(), 1);
}

void FrameSampler::prime(const float* frames, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i, frames += model_->coding.mel().bands) {
        if (has_last_) model_->network.advance(state_, gate_biases_.data(), last_.data());
        model_->coding.encode(frames, voice_, scratch_, last_.data());
        has_last_ = true;
    }
}

void FrameSampler::next(float* frame) {
    draw();
    model_->coding.decode(returned_.data(), voice_, scratch_, frame);
}

// The next encoded frame: `last_`, and with the temperature `returned_`.
void FrameSampler::draw() {
    model_->network.advance(state_, gate_biases_.data(), last_.data());  // zeros before the first frame
    draw_uniforms();
    Wanted wanted{std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::quiet_NaN()};
    // an estimate by the spectrum of the last frame: that of the next one is drawn later
    if (!std::isnan(loudness_))
        wanted.loudness = model_->coding.loudness_at_level(last_.data(), loudness_, voice_, scratch_);
    if (!std::isnan(pitch_)) wanted.pitch = model_->coding.encoded_pitch(pitch_, voice_);
    float source[SOURCE];
    draw_source(wanted, source);
    draw_shape(source);
    follow(source, wanted);
    if (!std::isnan(loudness_)) {
        set_level(last_);
        set_level(returned_);
    }
    for (int d = 0; d < model_->network.config.dimensions(); ++d)
        returned_[d] = model_->coding.clamped(returned_[d], d);
    has_last_ = true;
}

void FrameSampler::draw_uniforms() {
    for (double& uniform : uniforms_) uniform = random_.next();
    normal(uniforms_.data() + 2 + CANDIDATES, noise_.size(), noise_.data());
}

// Loudness, voicing, and voicing times pitch, from the distribution that brings the stream back to the recordings.
void FrameSampler::draw_source(const Wanted& wanted, float* source) {
    double sum = 0;
    int count = 0;
    for (const SourceComponent& component : state_.source)
        cumulative_[count++] = sum += std::exp(double(component.log_weight));
    SourceComponent c = state_.source[choose(cumulative_, count, uniforms_[0])];
    if (!model_->voiced.empty()) {
        const std::vector<float>& deviation = model_->network.deviation();
        c.voicing_logit -= VOICING_FEEDBACK * drift_voiced_;
        c.loudness -= MEAN_FEEDBACK * deviation[LOUDNESS] * drift_loudness_;
        c.pitch -= MEAN_FEEDBACK * deviation[PITCH] * drift_pitch_;
    }
    const float loudness = c.loudness + exponential(c.loudness_log_scale) * noise_[0];
    const float pitch = c.pitch + exponential(c.pitch_log_scale) * noise_[1];
    const bool is_voiced = uniforms_[1] < double(sigmoid(c.voicing_logit));
    source[LOUDNESS] = std::isnan(wanted.loudness) ? loudness : wanted.loudness;
    source[VOICING] = is_voiced;
    source[PITCH] = !is_voiced ? 0 : std::isnan(wanted.pitch) ? pitch : wanted.pitch;
    for (int d = 0; d < SOURCE; ++d) source[d] = model_->coding.clamped(source[d], d);
}

// The first candidate that shows the drawn pitch, or the one that shows it best.
void FrameSampler::draw_shape(const float* source) {
    const FrameModelConfig& config = model_->network.config;
    model_->network.shape(state_, source);
    double sum = 0;
    for (int m = 0; m < config.mixtures; ++m) cumulative_[m] = sum += std::exp(double(state_.log_weights[m]));
    double best = 0;
    for (int trial = 0; trial < CANDIDATES; ++trial) {
        const int component = choose(cumulative_, config.mixtures, uniforms_[2 + trial]);
        const float* const mean = state_.means.data() + std::size_t(component) * config.components;
        const float* const log_scale = state_.log_scales.data() + std::size_t(component) * config.components;
        const float* const noise = noise_.data() + 2 + std::size_t(trial) * config.components;
        std::copy(source, source + SOURCE, candidate_.begin());
        std::copy(source, source + SOURCE, candidate_returned_.begin());
        for (int k = 0; k < config.components; ++k) {
            const float deviation = exponential(log_scale[k]) * noise[k];
            candidate_[SOURCE + k] = model_->coding.clamped(mean[k] + deviation, SOURCE + k);
            candidate_returned_[SOURCE + k] = mean[k] + temperature_ * deviation;
        }
        const bool is_voiced = source[VOICING] > 0.5f;
        const double periodicity =
            is_voiced ? std::min(model_->coding.periodicity(candidate_.data(), voice_, scratch_), PERIODIC) : PERIODIC;
        if (trial == 0 || periodicity > best) {
            best = periodicity;
            last_.swap(candidate_);
            returned_.swap(candidate_returned_);
        }
        if (best >= PERIODIC) return;
    }
}

// Updates the drift with a source; what was not drawn, but wanted, has none.
void FrameSampler::follow(const float* source, const Wanted& wanted) {
    if (model_->voiced.empty()) return;
    const auto average = [&](float& drift, float latest) { drift = decay_ * drift + (1 - decay_) * latest; };
    average(drift_voiced_, source[VOICING] - share_);
    average(drift_loudness_, std::isfinite(wanted.loudness) ? drift_loudness_ : source[LOUDNESS]);
    const bool drawn = source[VOICING] > 0.5f && !std::isfinite(wanted.pitch);
    average(drift_pitch_, drawn ? source[PITCH] : drift_pitch_);
}

void FrameSampler::set_level(std::vector<float>& encoded) {
    const float loudness = model_->coding.loudness_at_level(encoded.data(), loudness_, voice_, scratch_);
    encoded[LOUDNESS] = model_->coding.clamped(loudness, LOUDNESS);
}

}  // namespace wavenet
