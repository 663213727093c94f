#include "conditioner.h"

#include <algorithm>

#include "failure.h"

namespace wavenet {

Conditioner::Conditioner(const ModelConfig& config, const TensorMap& tensors)
    : kernels_(chosen_kernels()),
      config_(config.engine_config()),
      speakers_(int(config.speakers.size())),
      speaker_channels_(config.speaker_channels),
      bands_(config.features ? config.features->bands : 0),
      bias_(std::size_t(config_.all_gates_width()) * 2) {
    const int gate = config_.gate, padded_gate = config_.gate_width(), width = int(bias_.size());
    for (int layer = 0; layer < config_.layers(); ++layer) {
        const float* const bias = tensors.at("layers." + std::to_string(layer) + ".dilated.bias").data();  // [2G]
        for (int half = 0; half < 2; ++half)
            std::copy_n(bias + half * gate, gate, &bias_[(2 * layer + half) * padded_gate]);
    }
    // A matrix [L * 2G][inputs], with each half of G rows padded.
    const auto projection = [&](const std::string& name, int inputs) {
        const float* const weight = tensors.at(name).data();
        return FrameMatrix(width, inputs, [&](int row, int input) {
            const int channel = row % padded_gate;
            return channel < gate ? weight[(std::size_t(row / padded_gate) * gate + channel) * inputs + input] : 0.0f;
        });
    };
    if (speakers_) {
        embedding_ = tensors.at("conditioning.speaker.weight");
        from_speaker_ = projection("conditioning.from_speaker.weight", speaker_channels_);
    }
    if (!bands_) return;
    from_frames_ = projection("conditioning.from_frames.weight", config.frame_channels);
    network_.emplace(config, tensors);
    predictor_.emplace(*config.features, config.linear_prediction);
    limits_ = feature_limits(*config.features);
    silence_ = config.features->silence();
}

bool Conditioner::possible(const float* frames, std::size_t n) const {
    return std::all_of(frames, frames + n * bands_, [this](float value) {
        return double(value) >= limits_.lowest && double(value) <= limits_.highest;
    });
}

void Conditioner::shared_biases(const float* shares, float* embedded, float* biases) const {
    std::copy(bias_.begin(), bias_.end(), biases);
    if (!speakers_) return;
    for (int channel = 0; channel < speaker_channels_; ++channel) {
        embedded[channel] = 0;
        for (int speaker = 0; speaker < speakers_; ++speaker)
            embedded[channel] += shares[speaker] * embedding_[std::size_t(speaker) * speaker_channels_ + channel];
    }
    from_speaker_.multiply(kernels_, embedded, 0, biases, 0, 1);
}

void Conditioner::frame_biases(const float* shared, const float* channels, int n, float* biases,
                               std::size_t stride) const {
    for (int frame = 0; frame < n; ++frame) std::copy_n(shared, width(), biases + frame * stride);
    from_frames_.multiply(kernels_, channels, network_->channels(), biases, stride, n);
}

std::unique_ptr<ConditioningFrames> Conditioner::frames(int streams, const float* shares, const float* features,
                                                        int n) const {
    std::vector<float> embedded(speaker_channels_);
    AlignedVector<float> shared(width());
    const std::size_t stride = streams * width();  // from frame to frame
    if (!bands_) {
        AlignedVector<float> biases(stride);
        for (int s = 0; s < streams; ++s) shared_biases(shares + s * speakers_, embedded.data(), &biases[s * width()]);
        return std::make_unique<ConditioningFrames>(config_, streams, 1, std::move(biases), std::vector<double>());
    }
    const FrameContext context = network_->context();
    const int frames = n - context.before - context.after, order = config_.prediction_order;
    if (frames < 3) fail("a chunk of frames needs one frame at least, and its context");
    AlignedVector<float> biases(frames * stride), channels(std::size_t(frames) * network_->channels());
    std::vector<double> predictors(order ? std::size_t(streams) * (frames - 2) * (order + 3) : 0);
    std::vector<float> frame(bands_);
    FrameNetwork::History history = network_->silence();
    FramePredictor::Workspace workspace = predictor_->workspace();
    double* row = predictors.data();
    for (int s = 0; s < streams; ++s) {
        for (int i = 0; i < n; ++i) {
            for (int band = 0; band < bands_; ++band) frame[band] = features[(std::size_t(s) * bands_ + band) * n + i];
            network_->append(history, frame.data());
            const int output = i - context.before - context.after, own = i - context.before;
            if (output >= 0) network_->output(history, &channels[std::size_t(output) * network_->channels()]);
            if (!order || own < 1 || own > frames - 2) continue;
            const int period = config_.pitch_taps ? predictor_->pitch(frame.data(), workspace).period : 0;
            predictor_->predict(frame.data(), period, workspace, row);
            row += order + 3;
        }
        shared_biases(shares + s * speakers_, embedded.data(), shared.data());
        frame_biases(shared.data(), channels.data(), frames, &biases[s * width()], stride);
    }
    return std::make_unique<ConditioningFrames>(config_, streams, frames, std::move(biases), std::move(predictors));
}

}  // namespace wavenet
