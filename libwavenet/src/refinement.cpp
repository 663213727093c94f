#include "refinement.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "failure.h"
#include "mel_filters.h"

namespace wavenet {
namespace {

constexpr double MOMENTUM = 0.9;     // as in wavenet/consistency.py
constexpr double MAX_LOG_GAIN = 20;  // of a band in one iteration
constexpr double LARGEST = 1e9;      // samples are limited to it, so that features out of range stay harmless

double bounded(double sample) { return std::clamp(sample, -LARGEST, LARGEST); }

// The analysis window, divided by the sum of the squares of all windows that overlap.
std::vector<double> synthesis_window(const MelConfig& mel) {
    const std::vector<double> window = hann_window(mel.window);
    std::vector<double> totals(std::size_t(mel.hop)), result(window);
    for (std::size_t i = 0; i < window.size(); ++i) totals[i % totals.size()] += window[i] * window[i];
    for (std::size_t i = 0; i < window.size(); ++i) result[i] /= totals[i % totals.size()];
    return result;
}

// Windows that overlap by half at least, and not too much work; checked before anything else is computed.
const MelConfig& checked(const MelConfig& mel, int iterations) {
    if (!mel.can_refine())
        fail("refinement needs windows that overlap by half; these have " + std::to_string(mel.window) +
             " samples and begin every " + std::to_string(mel.hop));
    if (!mel.refines_in_time(iterations))
        fail(std::to_string(iterations) + " iterations of refinement take too long with frames of " +
             std::to_string(mel.hop) + " samples and Fourier transforms of " + std::to_string(mel.fft));
    return mel;
}

}  // namespace

Refinement::Refinement(const MelConfig& mel, int iterations, std::size_t capacity)
    : transform_(checked(mel, iterations)),
      hop_(std::size_t(mel.hop)),
      window_(std::size_t(mel.window)),
      bands_(std::size_t(mel.bands)),
      margin_(window_margin(mel)),
      depth_(std::size_t(mel.lookahead())),
      per_frame_((std::size_t(iterations) + depth_ - 1) / depth_),
      capacity_(capacity),
      synthesis_(synthesis_window(mel)),
      log_gains_(bands_),
      // beyond the capacity: frames inside, and those before them of which the windows reach inside
      features_((capacity + depth_ + 3 + window_ / hop_) * bands_),
      result_(window_ + (depth_ + 1) * hop_),
      start_(result_.size()),
      changed_(result_.size()),
      incoming_(hop_),
      outgoing_(hop_) {}

void Refinement::reset() {
    std::fill(result_.begin(), result_.end(), 0.0);
    std::fill(start_.begin(), start_.end(), 0.0);
    std::fill(outgoing_.begin(), outgoing_.end(), 0.0f);
    filled_ = steps_ = done_ = 0;
    pushed_ = entered_ = left_ = 0;
}

std::size_t Refinement::push(const float* frames, std::size_t n) {
    const std::size_t slots = features_.size() / bands_, before = std::size_t(pushed_);
    const float silence = transform_.mel().silence();
    for (; n && pushed_ < entered_ + capacity_; --n, ++pushed_, frames += bands_)
        std::transform(frames, frames + bands_, features_.begin() + std::ptrdiff_t(pushed_ % slots * bands_),
                       [=](float value) { return std::isfinite(value) ? value : silence; });
    return std::size_t(pushed_) - before;
}

void Refinement::process(const float* audio, float* refined, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        incoming_[filled_++] = std::isfinite(audio[i]) ? bounded(audio[i]) : 0;
        for (; done_ * hop_ < steps_ * filled_; ++done_) step();
        if (filled_ == hop_) {
            leave();
            enter();
            filled_ = 0;
        }
        refined[i] = outgoing_[filled_];
    }
}

std::size_t Refinement::end(float* refined) {
    const std::uint64_t arrived = entered_ * hop_ + filled_;
    const std::size_t inside = std::size_t(std::min<std::uint64_t>(arrived, delay()));
    const float silence = 0;
    float ignored;
    for (std::size_t i = inside; i < delay(); ++i) process(&silence, &ignored, 1);
    for (std::size_t i = 0; i < inside; ++i) process(&silence, refined + i, 1);
    reset();
    return inside;
}

// The samples of a frame are there: plans the iterations with it.
void Refinement::enter() {
    const std::size_t inside = std::size_t(entered_ - left_) * hop_;
    for (std::vector<double>* signal : {&result_, &start_})
        std::copy(incoming_.begin(), incoming_.end(), signal->begin() + std::ptrdiff_t(window_ + inside));
    ++entered_;
    // the windows that end by now, and reach inside
    first_ = first_window(left_ * hop_);
    const std::int64_t complete = std::int64_t(entered_ * hop_) + margin_ - std::int64_t(window_);
    const std::uint64_t last = std::min(complete < 0 ? 0 : std::uint64_t(complete) / hop_ + 1, pushed_);
    windows_ = std::size_t(std::max(last, first_) - first_);
    begin_ = std::size_t(std::int64_t(first_ * hop_ + window_ - left_ * hop_) - margin_);
    steps_ = windows_ * per_frame_;
    done_ = 0;
}

// The iterations with the last frame are done: if as many frames are inside as there is room for, one leaves.
void Refinement::leave() {
    if (entered_ - left_ <= depth_) return;
    for (std::size_t i = 0; i < hop_; ++i) outgoing_[i] = float(std::clamp(result_[window_ + i], -1.0, 1.0));
    for (std::vector<double>* signal : {&result_, &start_})
        std::copy(signal->begin() + std::ptrdiff_t(hop_), signal->end(), signal->begin());
    std::copy(result_.begin(), result_.begin() + std::ptrdiff_t(window_), start_.begin());  // these stay as they are
    ++left_;
}

// The first window that contains the sample at a position or later ones.
std::uint64_t Refinement::first_window(std::uint64_t position) const {
    const std::int64_t begin = std::int64_t(position) + margin_ - std::int64_t(window_);
    return begin < 0 ? 0 : std::uint64_t(begin) / hop_ + 1;
}

// Corrects the next window; with the last one an iteration ends.
void Refinement::step() {
    const std::size_t window = done_ % windows_, slots = features_.size() / bands_;
    if (window == 0) std::fill(changed_.begin(), changed_.end(), 0.0);
    correct(features_.data() + (first_ + window) % slots * bands_, begin_ + window * hop_);
    if (window + 1 < windows_) return;
    std::fill(changed_.begin(), changed_.begin() + std::ptrdiff_t(window_), 0.0);  // these have left
    for (std::size_t i = 0; i < result_.size(); ++i) {
        const double next = bounded(start_[i] + changed_[i]);
        start_[i] = next + MOMENTUM * (next - result_[i]);
        result_[i] = next;
    }
}

// Adds what makes the window that begins at `start` agree with its target [bands].
void Refinement::correct(const float* target, std::size_t start) {
    const double power = transform_.mel().power;
    transform_.analyse(start_.data() + start);
    const std::vector<double>& log_bands = transform_.log_bands();
    for (std::size_t band = 0; band < bands_; ++band)
        log_gains_[band] = std::clamp((target[band] - log_bands[band]) / power, -MAX_LOG_GAIN, MAX_LOG_GAIN);
    transform_.add_change(log_gains_.data(), synthesis_.data(), changed_.data() + start);
}

}  // namespace wavenet
