// The C interface, include/wavenet.h: checks arguments, and turns failures into statuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "failure.h"
#include "generator.h"
#include "wavenet.h"

#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

using namespace wavenet;

struct wavenet_model {
    std::shared_ptr<const Generator> generator;
};
struct wavenet_stream {
    Stream stream;
    std::size_t max_block;
};
struct wavenet_analysis {
    MelAnalysis analysis;
    std::size_t max_block;
};

namespace {

wavenet_status failed(wavenet_status status, const char* message) {
    set_last_error(message);
    return status;
}

// Calls `work`, which returns a status. A failure inside becomes `status`.
template <class Work>
wavenet_status guarded(wavenet_status status, Work work) {
#if defined(__cpp_exceptions)
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return failed(WAVENET_NO_MEMORY, "out of memory");
    } catch (const std::exception& error) {
        return failed(status, error.what());
    }
#else
    (void)status;
    return work();
#endif
}

// The same for a function that returns an object, or null.
template <class Object, class Work>
Object* created(Work work) {
    Object* object = nullptr;
    guarded(WAVENET_INVALID, [&] {
        object = work();
        return WAVENET_OK;
    });
    return object;
}

template <class Read>
wavenet_status open(Read read, const char* precision, wavenet_model** model) {
    return guarded(WAVENET_BAD_FILE, [&] {
        *model = nullptr;
        const std::string name = precision ? precision : "f32";
        if (name != "f32" && name != "int8") return failed(WAVENET_INVALID, "precision: must be f32 or int8");
        *model = new wavenet_model{std::make_shared<const Generator>(read(), name)};
        return WAVENET_OK;
    });
}

// A property of a model; nothing of one that is null.
template <class Read>
auto property(const wavenet_model* model, Read read) {
    return model ? read(*model->generator) : decltype(read(*model->generator))();
}

// The same of the features that must be pushed.
template <class Read>
int feature_property(const wavenet_model* model, Read read) {
    return property(model, [&](const Generator& g) { return g.needs_features() ? read(g) : 0; });
}

bool is_temperature(double value) { return value >= 0 && value < HUGE_VAL; }

// Changes one control, if `valid`.
template <class Change>
wavenet_status set(wavenet_stream* stream, bool valid, const char* message, Change change) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    if (!valid) return failed(WAVENET_INVALID, message);
    stream->stream.controls.write(change);
    return WAVENET_OK;
}

}  // namespace

extern "C" {

const char* wavenet_version(void) { return WAVENET_VERSION; }
const char* wavenet_last_error(void) { return last_error(); }

wavenet_status wavenet_model_open(const char* path, const char* precision, wavenet_model** model) {
    if (!path || !model) return failed(WAVENET_INVALID, "path and model: must not be NULL");
    *model = nullptr;
    if (!check_readable(path)) return WAVENET_NO_FILE;
    return open([&] { return read_model_file(path); }, precision, model);
}

wavenet_status wavenet_model_open_bytes(const void* bytes, size_t size, const char* precision, wavenet_model** model) {
    if (!bytes || !model) return failed(WAVENET_INVALID, "bytes and model: must not be NULL");
    return open([&] { return read_model(bytes, size); }, precision, model);
}

void wavenet_model_close(wavenet_model* model) { delete model; }

int wavenet_model_sample_rate(const wavenet_model* model) {
    return property(model, [](const Generator& g) { return g.config.sample_rate; });
}
int wavenet_model_layers(const wavenet_model* model) {
    return property(model, [](const Generator& g) { return g.config.layers(); });
}
int wavenet_model_receptive_field(const wavenet_model* model) {
    return property(model, [](const Generator& g) { return g.config.receptive_field(); });
}
const char* wavenet_model_kernels(const wavenet_model* model) {
    return property(model, [](const Generator& g) { return g.fast_tier->kernels(); });
}
int wavenet_model_speakers(const wavenet_model* model) {
    return property(model, [](const Generator& g) { return int(g.config.speakers.size()); });
}
const char* wavenet_model_speaker(const wavenet_model* model, int index) {
    if (index < 0 || index >= wavenet_model_speakers(model)) return nullptr;
    return model->generator->config.speakers[index].c_str();
}
int wavenet_model_bands(const wavenet_model* model) {
    return feature_property(model, [](const Generator& g) { return g.config.features->bands; });
}
int wavenet_model_hop(const wavenet_model* model) {
    return feature_property(model, [](const Generator& g) { return g.config.features->hop; });
}
int wavenet_model_look_ahead(const wavenet_model* model) {
    return feature_property(model, [](const Generator& g) { return g.conditioner->look_ahead(); });
}

int wavenet_model_gate_channels(const wavenet_model* model) {
    return property(model, [](const Generator& g) { return g.config.gate_channels; });
}

wavenet_stream* wavenet_stream_new(const wavenet_model* model, uint64_t seed, size_t max_block) {
    return created<wavenet_stream>([&]() -> wavenet_stream* {
        if (!model) fail("model: is NULL");
        if (!max_block) fail("max_block = 0: must be at least 1");
        return new wavenet_stream{{model->generator, seed}, max_block};
    });
}

wavenet_stream* wavenet_stream_copy(const wavenet_stream* stream) {
    return created<wavenet_stream>([&]() -> wavenet_stream* {
        if (!stream) fail("stream: is NULL");
        return new wavenet_stream{stream->stream, stream->max_block};
    });
}

void wavenet_stream_free(wavenet_stream* stream) { delete stream; }

wavenet_status wavenet_stream_process(wavenet_stream* stream, float* out, size_t n) {
    if (!stream || (!out && n)) return failed(WAVENET_INVALID, "stream and out: must not be NULL");
    if (n > stream->max_block) {
        std::fill(out, out + n, 0.0f);
        return failed(WAVENET_INVALID, "n: is larger than max_block of wavenet_stream_new");
    }
    return stream->stream.process(out, n) == n ? WAVENET_OK : WAVENET_STARVED;
}

wavenet_status wavenet_stream_push(wavenet_stream* stream, const float* frames, size_t n, size_t* taken) {
    if (taken) *taken = 0;
    if (!stream || (!frames && n)) return failed(WAVENET_INVALID, "stream and frames: must not be NULL");
    if (!stream->stream.generator().needs_features())
        return failed(WAVENET_INVALID, "frames: this model needs no features");
    if (stream->stream.ended() && n)
        return failed(WAVENET_INVALID, "frames: none may follow the end; reset the stream");
    const Conditioner& conditioner = *stream->stream.generator().conditioner;
    if (!std::all_of(frames, frames + n * conditioner.bands(), [](float value) { return std::isfinite(value); }))
        return failed(WAVENET_INVALID, "frames: contain NaN or infinity");
    if (!conditioner.possible(frames, n))
        return failed(WAVENET_INVALID,
                      "frames: no audio in [-1, 1] has these values; they must be natural logarithms of mel bands, "
                      "computed with the model's parameters");
    const std::size_t pushed = stream->stream.push(frames, n);
    if (taken) *taken = pushed;
    return pushed == n ? WAVENET_OK : WAVENET_FULL;
}

wavenet_status wavenet_stream_end(wavenet_stream* stream) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    if (!stream->stream.generator().needs_features())
        return failed(WAVENET_INVALID, "this model needs no features: it has no end");
    stream->stream.end();
    return WAVENET_OK;
}

uint64_t wavenet_stream_position(const wavenet_stream* stream) { return stream ? stream->stream.position() : 0; }

wavenet_status wavenet_stream_seed(wavenet_stream* stream, uint64_t seed) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    stream->stream.seed(seed);
    return WAVENET_OK;
}

wavenet_status wavenet_stream_gates(const wavenet_stream* stream, float* z) {
    if (!stream || !z) return failed(WAVENET_INVALID, "stream and z: must not be NULL");
    stream->stream.gates(z);
    return WAVENET_OK;
}

wavenet_status wavenet_stream_watch(wavenet_stream* stream, int layer) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    if (layer < -1 || layer >= stream->stream.generator().config.layers())
        return failed(WAVENET_INVALID, "layer: must be from 0 to the number of layers minus one, or -1 for none");
    stream->stream.watch(layer);
    return WAVENET_OK;
}

wavenet_status wavenet_stream_watched(const wavenet_stream* stream, float* ab) {
    if (!stream || !ab) return failed(WAVENET_INVALID, "stream and ab: must not be NULL");
    stream->stream.watched(ab);
    return WAVENET_OK;
}

wavenet_status wavenet_stream_prepare(wavenet_stream* stream, int threads) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    if (threads < 0 || threads > 64) return failed(WAVENET_INVALID, "threads: must be from 1 to 64, or 0 to find out");
    return guarded(WAVENET_INVALID, [&] {
        stream->stream.prepare(threads);
        return WAVENET_OK;
    });
}

wavenet_status wavenet_stream_refine(wavenet_stream* stream, int iterations) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    if (iterations < 0 || iterations > 1000) return failed(WAVENET_INVALID, "iterations: must be from 0 to 1,000");
    return guarded(WAVENET_INVALID, [&] {
        stream->stream.refine(iterations);
        return WAVENET_OK;
    });
}

wavenet_status wavenet_stream_prime(wavenet_stream* stream, const float* audio, size_t n) {
    if (!stream || (!audio && n)) return failed(WAVENET_INVALID, "stream and audio: must not be NULL");
    for (size_t i = 0; i < n; ++i)
        if (!std::isfinite(audio[i])) return failed(WAVENET_INVALID, "audio: contains NaN or infinity");
    return guarded(WAVENET_INVALID, [&] {
        stream->stream.prime(audio, n);
        return WAVENET_OK;
    });
}

wavenet_status wavenet_stream_reset(wavenet_stream* stream, uint64_t seed) {
    if (!stream) return failed(WAVENET_INVALID, "stream: is NULL");
    return guarded(WAVENET_INVALID, [&] {
        stream->stream.reset(seed);
        return WAVENET_OK;
    });
}

wavenet_status wavenet_stream_set_temperature(wavenet_stream* stream, double temperature) {
    const bool two_tiers = stream && stream->stream.generator().frame_model;
    return set(stream, is_temperature(temperature), "temperature: must be a finite number from 0",
               [&](Controls& c) { (two_tiers ? c.frame_temperature : c.temperature) = temperature; });
}

wavenet_status wavenet_stream_set_voiced_temperature(wavenet_stream* stream, double temperature) {
    if (stream && !stream->stream.generator().config.features)
        return failed(WAVENET_INVALID, "voiced temperature: this model has no features, which state the pitch");
    return set(stream, std::isnan(temperature) || is_temperature(temperature),
               "voiced temperature: must be a finite number from 0, or NaN",
               [&](Controls& c) { c.voiced_temperature = temperature; });
}

wavenet_status wavenet_stream_set_top_k(wavenet_stream* stream, int k) {
    if (stream && k && stream->stream.generator().config.output != Output::MU_LAW)
        return failed(WAVENET_INVALID, "top k: this model has 16-bit outputs, which have no most probable codes");
    return set(stream, k >= 0, "top k: must be at least 1, or 0 for all codes", [&](Controls& c) { c.top_k = k; });
}

wavenet_status wavenet_stream_set_top_p(wavenet_stream* stream, double p) {
    return set(stream, p > 0 && p <= 1, "top p: must be above 0 and at most 1", [&](Controls& c) { c.top_p = p; });
}

wavenet_status wavenet_stream_set_speakers(wavenet_stream* stream, const float* shares, int speakers) {
    if (!stream || !shares) return failed(WAVENET_INVALID, "stream and shares: must not be NULL");
    if (!speakers || speakers != int(stream->stream.generator().config.speakers.size()))
        return failed(WAVENET_INVALID, "speakers: must be the number of speakers of the model, and not 0");
    double sum = 0;
    for (int i = 0; i < speakers; ++i) {
        if (!(shares[i] >= 0)) return failed(WAVENET_INVALID, "shares: must be at least 0");
        sum += shares[i];
    }
    return set(stream, sum > 0 && sum < HUGE_VAL, "shares: one must be above 0, and all finite", [&](Controls& c) {
        for (int i = 0; i < speakers; ++i) c.speakers[i] = float(shares[i] / sum);
    });
}

wavenet_status wavenet_stream_set_mute(wavenet_stream* stream, const int* layers, int n) {
    if (!stream || (n && !layers)) return failed(WAVENET_INVALID, "stream and layers: must not be NULL");
    const int most = stream->stream.generator().config.layers();
    const bool valid =
        n >= 0 && std::all_of(layers, layers + std::max(n, 0), [&](int l) { return l >= 0 && l < most; });
    return set(stream, valid, "mute: layers are numbered from 0 to the number of layers minus one", [&](Controls& c) {
        c.muted = false;
        for (int i = 0; i < n; ++i) c.muted[layers[i]] = true;
    });
}

wavenet_status wavenet_stream_set_pitch(wavenet_stream* stream, double hertz) {
    if (stream && !stream->stream.generator().frame_model)
        return failed(WAVENET_INVALID, "pitch: this model draws no frames, which have a pitch");
    return set(stream, std::isnan(hertz) || (hertz > 0 && hertz < HUGE_VAL), "pitch: must be Hz above 0, or NaN",
               [&](Controls& c) { c.pitch = hertz; });
}

wavenet_status wavenet_stream_set_loudness(wavenet_stream* stream, double decibels) {
    if (stream && !stream->stream.generator().frame_model)
        return failed(WAVENET_INVALID, "loudness: this model draws no frames, which have a loudness");
    return set(stream, std::isnan(decibels) || std::isfinite(decibels), "loudness: must be dB, or NaN",
               [&](Controls& c) { c.loudness = decibels; });
}

wavenet_analysis* wavenet_analysis_new(const wavenet_model* model, size_t max_block) {
    return created<wavenet_analysis>([&]() -> wavenet_analysis* {
        if (!model) fail("model: is NULL");
        if (!model->generator->needs_features()) fail("model: needs no features");
        if (!max_block) fail("max_block = 0: must be at least 1");
        return new wavenet_analysis{MelAnalysis(*model->generator->config.features, max_block), max_block};
    });
}

void wavenet_analysis_free(wavenet_analysis* analysis) { delete analysis; }

wavenet_status wavenet_analysis_process(wavenet_analysis* analysis, const float* audio, size_t n, float* frames,
                                        size_t* written) {
    if (written) *written = 0;
    if (!analysis || (!audio && n) || !frames || !written)
        return failed(WAVENET_INVALID, "analysis, audio, frames and written: must not be NULL");
    if (n > analysis->max_block) return failed(WAVENET_INVALID, "n: is larger than max_block of wavenet_analysis_new");
    *written = analysis->analysis.process(audio, n, frames);
    return WAVENET_OK;
}

size_t wavenet_analysis_room(const wavenet_analysis* analysis) { return analysis ? analysis->analysis.room() : 0; }

wavenet_status wavenet_analysis_end(wavenet_analysis* analysis, float* frames, size_t* written) {
    if (written) *written = 0;
    if (!analysis || !frames || !written)
        return failed(WAVENET_INVALID, "analysis, frames and written: must not be NULL");
    *written = analysis->analysis.end(frames);
    return WAVENET_OK;
}

}  // extern "C"
