#include "frame_network.h"

#include <algorithm>

namespace wavenet {
namespace {

constexpr int PARALLEL_DILATIONS[] = {1, 2, 4, 8, 16};  // in frames
constexpr int POOLED_WINDOW = 2 * POOLED_FRAMES + 1;
constexpr float MAX_NORMALISED = 1e6f;  // no audio has features near it; beyond, sums could overflow

}  // namespace

FrameContext frame_context(FrameNetworkKind kind) {
    if (kind == FrameNetworkKind::PARALLEL) return {POOLED_FRAMES, POOLED_FRAMES};
    const int taps = 2 * (PLAIN_TAPS - 1);  // of both convolutions, besides the frame itself
    return kind == FrameNetworkKind::CAUSAL ? FrameContext{taps, 0} : FrameContext{taps / 2, taps / 2};
}

FrameNetwork::FrameNetwork(const ModelConfig& config, const TensorMap& tensors)
    : kernels_(chosen_kernels()),
      context_(frame_context(config.frame_network)),
      bands_(config.features->bands),
      ring_(config.frame_network == FrameNetworkKind::PARALLEL ? POOLED_WINDOW : PLAIN_TAPS),
      mean_(float(config.features->mean)),
      deviation_(float(config.features->deviation)),
      silence_(config.features->silence()) {
    const int channels = config.frame_channels;
    if (config.frame_network != FrameNetworkKind::PARALLEL) {
        branches_ = {convolution(tensors, "first", bands_, channels, PLAIN_TAPS)};
        last_ = convolution(tensors, "second", channels, channels, PLAIN_TAPS);
        return;
    }
    branch_channels_ = channels / 4;
    branches_.push_back(convolution(tensors, "point", bands_, branch_channels_));
    for (int dilation : PARALLEL_DILATIONS)
        branches_.push_back(
            convolution(tensors, "rate_" + std::to_string(dilation), bands_, branch_channels_, PLAIN_TAPS, dilation));
    branches_.push_back(convolution(tensors, "pooled", bands_, branch_channels_));
    last_ = convolution(tensors, "joined", int(branches_.size()) * branch_channels_, channels);
}

FrameNetwork::Convolution FrameNetwork::convolution(const TensorMap& tensors, const std::string& name, int inputs,
                                                    int outputs, int taps, int dilation) {
    const float* const weight = tensors.at("conditioning.frames." + name + ".weight").data();  // [taps][out][in]
    const std::vector<float>& bias = tensors.at("conditioning.frames." + name + ".bias");
    Convolution made;
    made.dilation = dilation;
    for (int tap = 0; tap < taps; ++tap)
        made.taps.emplace_back(outputs, inputs, [&](int row, int input) {
            return weight[(std::size_t(tap) * outputs + row) * inputs + input];
        });
    made.bias.assign(made.taps[0].rows(), 0.0f);
    std::copy(bias.begin(), bias.end(), made.bias.begin());
    return made;
}

template <class Frames>
void FrameNetwork::convolve(const Convolution& convolution, int age_of_last, Frames x, float* y) const {
    std::copy(convolution.bias.begin(), convolution.bias.end(), y);
    int age = age_of_last + (int(convolution.taps.size()) - 1) * convolution.dilation;
    for (const FrameMatrix& tap : convolution.taps) {
        tap.multiply(kernels_, x(age), 0, y, 0, 1);
        age -= convolution.dilation;
    }
    for (std::size_t i = 0; i < convolution.bias.size(); ++i) y[i] = y[i] > 0 ? y[i] : 0;
}

FrameNetwork::History FrameNetwork::silence() const {
    History history;
    history.frames.resize(std::size_t(ring_) * bands_);
    if (branch_channels_) {
        history.mean.resize(bands_);
        history.sums.resize(branches_[0].bias.size());
        history.branches.resize(branches_.size() * branch_channels_);
    } else {
        history.hidden.resize(ring_ * branches_[0].bias.size());
    }
    const std::vector<float> frame(bands_, silence_);
    for (int i = 0; i < 2 * ring_; ++i) append(history, frame.data());  // twice: what follows from them is silent, too
    return history;
}

void FrameNetwork::append(History& history, const float* frame) const {
    history.newest = history.newest + 1 < ring_ ? history.newest + 1 : 0;
    float* const normalised = &history.frames[std::size_t(history.newest) * bands_];
    for (int band = 0; band < bands_; ++band) {
        const float value = (frame[band] - mean_) / deviation_;
        normalised[band] = std::min(std::max(-MAX_NORMALISED, value), MAX_NORMALISED);
    }
    if (branch_channels_) return;
    const Convolution& first = branches_[0];
    convolve(
        first, 0, [&](int age) { return &history.frames[std::size_t(place(history, age)) * bands_]; },
        &history.hidden[history.newest * first.bias.size()]);
}

void FrameNetwork::output(History& history, float* channels) const {
    if (!branch_channels_) {
        const std::size_t width = branches_[0].bias.size();
        convolve(last_, 0, [&](int age) { return &history.hidden[place(history, age) * width]; }, channels);
        return;
    }
    const auto frame = [&](int age) { return &history.frames[std::size_t(place(history, age)) * bands_]; };
    std::fill(history.mean.begin(), history.mean.end(), 0.0f);
    for (int age = POOLED_WINDOW - 1; age >= 0; --age)
        for (int band = 0; band < bands_; ++band) history.mean[band] += frame(age)[band];
    for (float& value : history.mean) value /= POOLED_WINDOW;
    float* joined = history.branches.data();
    for (const Convolution& branch : branches_) {
        const int after = int(branch.taps.size()) / 2 * branch.dilation;  // frames after the centre
        if (&branch == &branches_.back())
            convolve(branch, 0, [&](int) { return history.mean.data(); }, history.sums.data());
        else convolve(branch, POOLED_FRAMES - after, frame, history.sums.data());
        joined = std::copy_n(history.sums.begin(), branch_channels_, joined);
    }
    convolve(last_, 0, [&](int) { return history.branches.data(); }, channels);
}

}  // namespace wavenet
