// Frame coding: log-mel frames <-> encoded frames, in which a frame model predicts. The same as wavenet/frame_coding.py,
// where it is explained; float64 as there.
#pragma once

#include <vector>

#include "frame_predictor.h"
#include "frame_step.h"
#include "model_config.h"

namespace wavenet {

// The normalisation of a voice, or of a mixture of voices: mean and standard deviation of the loudness and of ln F0, and
// the mean [bands] of frames without their loudness.
struct FrameVoice {
    double loudness, loudness_deviation, pitch, pitch_deviation;
    std::vector<double> mean;
};

// Buffers of one thread.
struct FrameScratch {
    std::vector<float> frame;      // [bands]
    std::vector<double> values;    // [bands]
    std::vector<double> shape;     // [K]
    std::vector<double> cepstrum;  // [periods]
};

class FrameCoding {
public:
    // voices: 0 for a model of a single voice. Fails as `frame_tensor`.
    FrameCoding(const FrameModelConfig& config, const MelConfig& mel, int voices, const TensorMap& tensors);

    FrameVoice new_voice() const { return {0, 0, 0, 0, std::vector<double>(mel_.bands)}; }
    FrameScratch new_scratch() const;
    // The normalisation of a mixture of voices, shares [V]; of a single voice: null.
    void set_voice(const float* shares, FrameVoice& voice) const;

    // A log-mel frame [bands] -> an encoded frame [D], within the limits. Fails for one that is not finite.
    void encode(const float* frame, const FrameVoice& voice, FrameScratch& scratch, float* encoded) const;
    // An encoded frame [D] -> a log-mel frame [bands].
    void decode(const float* encoded, const FrameVoice& voice, FrameScratch& scratch, float* frame) const;
    // How clearly the decoded frame shows the encoded pitch of a voiced frame: a cepstral peak.
    double periodicity(const float* encoded, const FrameVoice& voice, FrameScratch& scratch) const;
    // The encoded loudness that gives the frame's audio this level in dBFS.
    float loudness_at_level(const float* encoded, double level, const FrameVoice& voice, FrameScratch& scratch) const;
    // A frequency in Hz as the encoded pitch of a voiced frame.
    float encoded_pitch(double hertz, const FrameVoice& voice) const;
    float clamped(float value, int dimension) const;  // to the limits

    const MelConfig& mel() const { return mel_; }

private:
    bool voicing_and_pitch(const float* frame, FrameScratch& scratch, double& hertz) const;

    const MelConfig mel_;
    const FramePredictor predictor_;
    const int voices_, components_;
    std::vector<double> mean_, loudness_, pitch_;  // [V][bands], [V][2], [V][2]
    std::vector<double> analysis_, synthesis_;     // [bands][K], [K][bands]
    std::vector<float> limits_;                    // [2][D]
    std::vector<double> log_periods_;              // [periods]
};

}  // namespace wavenet
