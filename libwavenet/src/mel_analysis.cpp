#include "mel_analysis.h"

#include <algorithm>
#include <cmath>

#include "mel_filters.h"

namespace wavenet {

MelAnalysis::MelAnalysis(const MelConfig& mel, std::size_t max_block)
    : transform_(mel), delay_(std::size_t(mel.window - window_margin(mel))), samples_(std::size_t(mel.window)) {
    const std::size_t hop = std::size_t(mel.hop);
    room_ = (std::max(max_block, delay_) - 1) / hop + 1;
    reset();
}

void MelAnalysis::reset() {
    filled_ = window_margin(transform_.mel());
    arrived_ = written_ = 0;
    std::fill(samples_.begin(), samples_.end(), 0.0);
}

std::size_t MelAnalysis::process(const float* audio, std::size_t n, float* frames) {
    const std::uint64_t before = written_;
    const std::size_t bands = std::size_t(transform_.mel().bands);
    arrived_ += n;
    for (std::size_t i = 0; i < n; ++i) {
        if (filled_ >= 0)
            samples_[std::size_t(filled_)] =
                std::isfinite(audio[i]) ? std::clamp<double>(audio[i], -OVERSHOOT, OVERSHOOT) : 0;
        if (++filled_ == std::ptrdiff_t(samples_.size())) write(frames + (written_ - before) * bands);
    }
    return std::size_t(written_ - before);
}

std::size_t MelAnalysis::end(float* frames) {
    const std::uint64_t before = written_, hop = std::uint64_t(transform_.mel().hop);
    const std::uint64_t missing = (arrived_ + hop - 1) / hop - before;
    for (std::uint64_t i = 0; i < missing; ++i) {
        std::fill(samples_.begin() + std::max<std::ptrdiff_t>(filled_, 0), samples_.end(), 0.0);
        write(frames + i * std::size_t(transform_.mel().bands));
    }
    reset();
    return std::size_t(missing);
}

// The frame whose samples are there; keeps those that the next one shares.
void MelAnalysis::write(float* frame) {
    transform_.analyse(samples_.data());
    const std::vector<double>& bands = transform_.log_bands();
    std::copy(bands.begin(), bands.end(), frame);
    const std::ptrdiff_t hop = transform_.mel().hop;
    filled_ = std::ptrdiff_t(samples_.size()) - hop;
    if (filled_ > 0) std::copy(samples_.begin() + hop, samples_.end(), samples_.begin());
    ++written_;
}

}  // namespace wavenet
