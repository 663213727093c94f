#include "conditioning_stream.h"

#include <algorithm>
#include <limits>

#include "interpolation.h"
#include "linear_prediction.h"

namespace wavenet {
namespace {

std::size_t power_of_two(std::size_t least) {
    std::size_t size = 1;
    while (size < least) size *= 2;
    return size;
}

}  // namespace

ConditioningStream::ConditioningStream(std::shared_ptr<const Conditioner> conditioner, std::size_t capacity)
    : conditioner_(std::move(conditioner)),
      bands_(conditioner_->bands()),
      hop_(conditioner_->config().hop),
      after_(bands_ ? conditioner_->network().context().after : 0),
      capacity_(std::max<std::size_t>(capacity, 1)),
      slots_(power_of_two(capacity_)),
      waiting_(slots_ * bands_),
      state_(start()) {
    std::vector<float> shares(conditioner_->speakers());
    if (!shares.empty()) shares[0] = 1;
    speak(shares.data());
}

ConditioningStream::ConditioningStream(const ConditioningStream& other)
    : Conditioning(other),
      conditioner_(other.conditioner_),
      bands_(other.bands_),
      hop_(other.hop_),
      after_(other.after_),
      capacity_(other.capacity_),
      slots_(other.slots_),
      waiting_(other.waiting_.size()),
      ended_(other.ended_.load(std::memory_order_acquire)),
      state_(other.state_) {
    const std::size_t pushed = other.pushed_.load(std::memory_order_acquire);
    std::size_t frame = other.taken_.load(std::memory_order_relaxed);
    taken_.store(frame, std::memory_order_relaxed);
    pushed_.store(pushed, std::memory_order_relaxed);
    for (; frame != pushed; ++frame)  // a pushing thread may be writing to the other slots
        std::copy_n(&other.waiting_[slot(frame)], bands_, &waiting_[slot(frame)]);
}

ConditioningStream::State ConditioningStream::start() const {
    State state;
    state.shared.resize(conditioner_->width());
    state.embedded.resize(conditioner_->speaker_channels());
    state.predictor.resize(conditioner_->config().prediction_order + 3);
    if (!bands_) return state;
    const FrameNetwork& network = conditioner_->network();
    state.history = network.silence();
    state.recent.resize(std::size_t(after_ + 2) * bands_);
    state.channels.resize(2 * std::size_t(network.channels()));
    state.biases.resize(2 * conditioner_->width());
    state.workspace = conditioner_->predictor().workspace();
    return state;
}

void ConditioningStream::reset() {
    State state = start();
    state.shared = state_.shared;
    state_ = std::move(state);
    pushed_.store(0, std::memory_order_relaxed);
    taken_.store(0, std::memory_order_relaxed);
    ended_.store(false, std::memory_order_release);
}

std::size_t ConditioningStream::push(const float* frames, std::size_t n) {
    if (!bands_ || ended_.load(std::memory_order_relaxed)) return 0;
    const std::size_t pushed = pushed_.load(std::memory_order_relaxed);
    n = std::min(n, capacity_ - (pushed - taken_.load(std::memory_order_acquire)));
    const auto low = float(conditioner_->limits().lowest), high = float(conditioner_->limits().highest);
    for (std::size_t frame = 0; frame < n; ++frame, frames += bands_) {
        float* const waiting = &waiting_[slot(pushed + frame)];
        for (int band = 0; band < bands_; ++band)
            waiting[band] = std::min(std::max(low, frames[band]), high);  // NaN: low
    }
    pushed_.store(pushed + n, std::memory_order_release);
    return n;
}

void ConditioningStream::end() { ended_.store(true, std::memory_order_release); }

std::uint64_t ConditioningStream::available(std::uint64_t position) const {
    if (!bands_) return std::numeric_limits<std::uint64_t>::max();
    const bool ended = ended_.load(std::memory_order_acquire);  // first: then no frames follow those that are counted
    const std::int64_t frames =
        state_.taken + std::int64_t(pushed_.load(std::memory_order_acquire) - taken_.load(std::memory_order_relaxed));
    // otherwise to the centre of the last frame that has the frames after it which the network needs
    const std::int64_t end = ended ? frames * hop_ : (frames - 1 - after_) * hop_ + hop_ / 2;
    return end > std::int64_t(position) ? std::uint64_t(end) - position : 0;
}

std::size_t ConditioningStream::ready(std::uint64_t position) {
    state_.position = position;
    if (!bands_) return state_.ready = std::numeric_limits<std::size_t>::max();
    state_.ready = 0;
    if (ended_.load(std::memory_order_acquire) && !available(position)) return 0;
    const auto frame = std::int64_t(position / hop_);
    const int sample = int(position % hop_);
    const bool first_half = interpolation(sample, hop_).from < 0;
    const std::int64_t last = first_half ? frame : frame + 1;  // whose gate biases are needed, with the one before it
    while (state_.computed < last) {
        const std::int64_t next = state_.computed + 1;
        while (state_.appended <= next + after_)
            if (!append()) return 0;
        if (next >= last - 1) {
            float* const channels = &state_.channels[(next & 1) * conditioner_->network().channels()];
            conditioner_->network().output(state_.history, channels);
            project(next);
        }
        state_.computed = next;
    }
    if (state_.current != frame) enter(frame);
    return state_.ready = (first_half ? hop_ / 2 : hop_) - sample;
}

// Appends the next frame to the history: a waiting one, or after the end a silent one. Returns whether there is one.
bool ConditioningStream::append() {
    const bool ended = ended_.load(std::memory_order_acquire);  // first: then no frames follow those that wait
    const std::size_t taken = taken_.load(std::memory_order_relaxed);
    const bool waits = taken != pushed_.load(std::memory_order_acquire);
    if (!waits && !ended) return false;
    float* const recent = &state_.recent[state_.appended % (after_ + 2) * bands_];
    if (waits) {
        std::copy_n(&waiting_[slot(taken)], bands_, recent);
        taken_.store(taken + 1, std::memory_order_release);
        ++state_.taken;
    } else {
        std::fill_n(recent, bands_, conditioner_->silence());
    }
    conditioner_->network().append(state_.history, recent);
    ++state_.appended;
    return true;
}

// The gate biases of a frame, one of the last two whose channels are known.
void ConditioningStream::project(std::int64_t frame) {
    float* const biases = &state_.biases[(frame & 1) * conditioner_->width()];
    const float* const channels = &state_.channels[(frame & 1) * conditioner_->network().channels()];
    conditioner_->frame_biases(state_.shared.data(), channels, 1, biases, 0);
    limit_biases(biases, conditioner_->width());
}

void ConditioningStream::enter(std::int64_t frame) {
    state_.current = frame;
    state_.pitch.reset();
    const Config& config = conditioner_->config();
    if (!config.prediction_order) return;
    const FramePredictor& predictor = conditioner_->predictor();
    if (config.pitch_taps) state_.pitch = predictor.pitch(features(frame), state_.workspace);
    double* const row = state_.predictor.data();
    predictor.predict(features(frame), state_.pitch ? state_.pitch->period : 0, state_.workspace, row);
    if (valid_predictor(config, row)) return;
    std::fill_n(row, config.prediction_order, 0.0);  // as of silence
    row[config.prediction_order] = row[config.prediction_order + 1] = MIN_GAIN;
}

bool ConditioningStream::voiced() const {
    if (!bands_ || state_.current < 0) return false;
    if (!state_.pitch) state_.pitch = conditioner_->predictor().pitch(features(state_.current), state_.workspace);
    return state_.pitch->voiced;
}

void ConditioningStream::speak(const float* shares) {
    conditioner_->shared_biases(shares, state_.embedded.data(), state_.shared.data());
    if (!bands_) limit_biases(state_.shared.data(), state_.shared.size());
    for (std::int64_t frame = std::max<std::int64_t>(state_.computed - 1, -1); bands_ && frame <= state_.computed;
         ++frame)
        project(frame);
}

GateBiases ConditioningStream::biases(int, std::size_t offset) const {
    if (!bands_) return {state_.shared.data(), state_.shared.data(), 0, 0};
    const std::uint64_t position = state_.position + offset;
    const Interpolation between = interpolation(int(position % hop_), hop_);
    const std::size_t width = conditioner_->width();
    const auto from = std::int64_t(position / hop_) + between.from;
    return {&state_.biases[(from & 1) * width], &state_.biases[(~from & 1) * width], between.fraction, 0};
}

const double* ConditioningStream::predictor(int, std::size_t) const { return state_.predictor.data(); }

}  // namespace wavenet
