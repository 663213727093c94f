// The configuration of a generator, as in wavenet/config.py: what a model file stores, and what follows from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config.h"

namespace wavenet {

constexpr int MU_LAW_CODES = 256;

using Shapes = std::map<std::string, std::vector<std::size_t>>;

// Parameters of the features, a log-mel spectrogram (wavenet/mel_config.py).
struct MelConfig {
    int sample_rate = 16'000;  // Hz
    int window = 640;          // samples, Hann
    int fft = 1'024;           // samples
    int hop = 160;             // samples from one frame to the next
    int bands = 80;
    double low = 0;       // Hz, lower edge of the first band
    double high = 8'000;  // Hz, upper edge of the last band
    bool slaney = true;   // mel scale: "slaney" or "htk"
    bool area = true;     // divide the weights of each band by its width in Hz
    double power = 1;     // exponent of the spectrum
    double floor = 1e-5;  // lower limit of a band before the logarithm
    double mean = -5;     // normalisation: the frame network receives (feature - mean) / deviation
    double deviation = 2.5;

    float silence() const;                                 // the feature of silence, in every band
    bool can_refine() const { return 2 * hop <= window; }  // whether windows overlap by half or more
    int lookahead() const;                                 // frames that refinement holds back, in a stream
    bool refines_in_time(int iterations) const;            // a stream: at most `MAX_REFINING_WORK`
    std::pair<int, int> pitch_periods() const;             // the shortest and the longest, in samples
};

// The shape of a frame model, the slow tier (wavenet/frame_model_config.py).
struct FrameModelConfig {
    static constexpr int KERNEL_SIZE = 2;
    static constexpr int SOURCE = 3;             // dimensions of loudness, voicing and pitch in an encoded frame
    static constexpr int SOURCE_PARAMETERS = 6;  // of a mixture component of the source
    static constexpr int BUMPS = 28;             // Gaussian functions of the pitch that are inputs of the shape's head

    int cycles = 1;
    int layers_per_cycle = 8;
    int residual_channels = 128;
    int skip_channels = 192;
    int components = 48;  // dimensions of the shape in an encoded frame
    int mixtures = 8;
    int source_mixtures = 4;
    int prediction_order = 2;

    int layers() const { return cycles * layers_per_cycle; }
    std::vector<int> dilations() const;  // of each layer, in frames
    int dimensions() const { return SOURCE + components; }
    int receptive_field() const;                                      // frames
    Shapes shapes(const MelConfig& mel, std::size_t speakers) const;  // speakers: 0 for a single voice
};

// The sampling options that are used unless others are given (wavenet/sampling_config.py).
struct SamplingConfig {
    double temperature = 1;
    double voiced_temperature = std::numeric_limits<double>::quiet_NaN();  // NaN: `temperature`
    int top_k = 0;                                                         // 0: all codes
    double top_p = 1;                                                      // 1: all codes
    int refine = 0;
    int particles = 0;
    double frame_temperature = 1;
    std::optional<std::array<double, 2>> frame_temperature_range;
};

// What the features that the network was trained on were like (wavenet/mel_config.py).
struct FeatureRange {
    std::array<double, 2> level{};                               // dB
    std::array<double, 2> pitch{};                               // Hz
    double gains = 0;                                            // dB
    double quietest = std::numeric_limits<double>::quiet_NaN();  // dB; NaN: not known
    std::vector<double> voiced;                                  // share of voiced frames of each speaker
};

// How loud the recordings of each speaker are, that a network without features was trained on
// (wavenet/sampling_config.py).
struct RecordedLevels {
    std::vector<double> loud;    // dBFS, of the frames that are not silent
    std::vector<double> silent;  // share of silent frames
};

enum class FrameNetworkKind { PLAIN, PARALLEL, CAUSAL };

struct ModelConfig {
    int cycles = 2;
    int layers_per_cycle = 10;
    int kernel_size = 2;
    int residual_channels = 32;
    int gate_channels = 32;
    int skip_channels = 128;
    int head_channels = 128;
    Output output = Output::MU_LAW;
    int mixtures = 10;
    int sample_rate = 16'000;  // Hz
    std::vector<std::string> speakers;
    int speaker_channels = 16;
    std::optional<MelConfig> features;
    FrameNetworkKind frame_network = FrameNetworkKind::PLAIN;
    int frame_channels = 64;
    int linear_prediction = 0;
    int pitch_taps = 0;
    std::optional<FrameModelConfig> frame_model;
    SamplingConfig sampling;
    std::optional<FeatureRange> training_range;
    std::optional<RecordedLevels> recorded_levels;

    int layers() const { return cycles * layers_per_cycle; }
    bool conditioned() const { return !speakers.empty() || features; }
    std::vector<int> dilations() const;  // of each layer, in samples
    int receptive_field() const;         // samples
    std::uint64_t queue_size() const;    // values in the queues of one stream
    std::uint64_t parameters() const;    // trainable values, without those of the frame model
    int output_channels() const;
    int components() const { return output == Output::LOGISTIC ? mixtures : 1; }  // of a 16-bit output
    int input_channels() const;  // rows of the embedding: one per mu-law code, or one per input value
    bool backward_adaptive() const { return linear_prediction && !features; }
    int adaptation_window() const;  // samples
    int adaptation_hop() const;     // samples
    int pitch_reach() const;        // how far back the pitch taps reach, in samples
    Shapes shapes() const;          // of every tensor in the model file; those of the frame model as "frame_model.*"
    Config engine_config() const;
};

// Reads the JSON of a configuration. Fails unless every field is one that Python accepts.
// source: what errors begin with, such as "a.safetensors: its configuration".
ModelConfig read_config(std::string_view json, const std::string& source);

}  // namespace wavenet
