/* libwavenet: generates audio with WaveNet models, in real time, without Python.
 *
 *     wavenet_model *model;
 *     if (wavenet_model_open("speech.safetensors", "int8", &model)) return fputs(wavenet_last_error(), stderr);
 *     wavenet_stream *stream = wavenet_stream_new(model, 7, 512);
 *     float block[512];
 *     wavenet_stream_process(stream, block, 512);
 *
 * A model is immutable, and may be used by any number of streams in any number of threads. A stream is one voice: of the
 * functions below, those named in "Playing" may be called by one thread at a time, and those in "Controls" by any thread
 * at any time. A seed gives the same audio as `wavenet.Generator` in Python: in int8 with mu-law outputs everywhere,
 * otherwise on the same instruction set.
 *
 * Every function that can fail returns a status, or NULL instead of an object; `wavenet_last_error` is then the reason
 * in words. Nothing in a model file can make the library read or write outside its memory.
 */
#ifndef WAVENET_H
#define WAVENET_H

#include <stddef.h>
#include <stdint.h>

#if defined(WAVENET_SHARED_LIBRARY) && defined(_WIN32)
#ifdef WAVENET_BUILDING
#define WAVENET_API __declspec(dllexport)
#else
#define WAVENET_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define WAVENET_API __attribute__((visibility("default")))
#else
#define WAVENET_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wavenet_model wavenet_model;
typedef struct wavenet_stream wavenet_stream;
typedef struct wavenet_analysis wavenet_analysis;

typedef enum wavenet_status {
    WAVENET_OK = 0,
    WAVENET_INVALID = 1,  /* an argument is out of range, or the model does not have what it is for */
    WAVENET_BAD_FILE = 2, /* not a model file, or one that contradicts itself */
    WAVENET_NO_FILE = 3,  /* the file cannot be read */
    WAVENET_NO_MEMORY = 4,
    WAVENET_STARVED = 5, /* the features that were pushed end before the block does; its rest is silence */
    WAVENET_FULL = 6     /* no room for more features: process first */
} wavenet_status;

/* The version of the library, such as "0.1.0". */
WAVENET_API const char* wavenet_version(void);
/* Why the last call in this thread failed: one line, valid until the next one fails. */
WAVENET_API const char* wavenet_last_error(void);

/* Models ------------------------------------------------------------------------------------------------------------ */

/* Opens a model file (.safetensors), from a path or from its bytes, which are not needed afterwards. `*model` is NULL if
 * it fails.
 * precision: "f32", or "int8" (faster); NULL: "f32". */
WAVENET_API wavenet_status wavenet_model_open(const char* path, const char* precision, wavenet_model** model);
WAVENET_API wavenet_status wavenet_model_open_bytes(const void* bytes, size_t size, const char* precision,
                                                    wavenet_model** model);
/* Streams may still exist: the model is freed with the last of them. NULL is ignored. */
WAVENET_API void wavenet_model_close(wavenet_model* model);

/* What a model is; 0 or NULL for NULL. */
WAVENET_API int wavenet_model_sample_rate(const wavenet_model* model);     /* Hz */
WAVENET_API int wavenet_model_layers(const wavenet_model* model);          /* residual layers */
WAVENET_API int wavenet_model_receptive_field(const wavenet_model* model); /* samples */
WAVENET_API int wavenet_model_gate_channels(const wavenet_model* model);   /* of z, in each layer: G */
WAVENET_API const char* wavenet_model_kernels(const wavenet_model* model); /* instruction set, such as "avx2" */
/* Speakers that a model was trained on; 0 for one without. The name of speaker `index`, or NULL. */
WAVENET_API int wavenet_model_speakers(const wavenet_model* model);
WAVENET_API const char* wavenet_model_speaker(const wavenet_model* model, int index);
/* Features (log-mel frames) that must be pushed: bands of a frame, samples of a frame, and how many frames a sample's own
 * frame must be followed by before it can be generated. 0 for models that need none: those without features, and those
 * of two tiers, which draw their own frames. */
WAVENET_API int wavenet_model_bands(const wavenet_model* model);
WAVENET_API int wavenet_model_hop(const wavenet_model* model);
WAVENET_API int wavenet_model_look_ahead(const wavenet_model* model);

/* Streams ----------------------------------------------------------------------------------------------------------- */

/* A new stream, with the sampling options stored in the model and, if it has speakers, the first one.
 * seed: of the random numbers. max_block: the largest n of `wavenet_stream_process`. NULL: failed. */
WAVENET_API wavenet_stream* wavenet_stream_new(const wavenet_model* model, uint64_t seed, size_t max_block);
/* An independent stream that continues from the same sample with the same random numbers, on one thread. Not beside
 * the functions in "Playing", but for `wavenet_stream_push`. NULL: failed. */
WAVENET_API wavenet_stream* wavenet_stream_copy(const wavenet_stream* stream);
/* NULL is ignored. */
WAVENET_API void wavenet_stream_free(wavenet_stream* stream);

/* Playing: one thread at a time ------------------------------------------------------------------------------------- */

/* Generates the next n samples, in [-1, 1]. Allocates nothing, takes no lock and makes no system call. */
WAVENET_API wavenet_status wavenet_stream_process(wavenet_stream* stream, float* out, size_t n);
/* Pushes n log-mel frames, [n][bands]; only for models with `wavenet_model_bands`. May be called by another thread than
 * the one that processes. `taken` (or NULL) receives how many there was room for; with fewer than n, WAVENET_FULL.
 * Frames that no audio in [-1, 1] can have are refused, and none of the n is taken: those of another scale, such as
 * decibels, and NaN. Allocates nothing, takes no lock and makes no system call. */
WAVENET_API wavenet_status wavenet_stream_push(wavenet_stream* stream, const float* frames, size_t n, size_t* taken);
/* No more frames follow: what was pushed is generated to its end. By the thread that pushes. */
WAVENET_API wavenet_status wavenet_stream_end(wavenet_stream* stream);
/* Samples generated so far. */
WAVENET_API uint64_t wavenet_stream_position(const wavenet_stream* stream);

/* The random numbers from now on are those of this seed; so a copy continues differently. In models of two tiers the
 * frames that are drawn already stay. Allocates nothing, takes no lock and makes no system call. */
WAVENET_API wavenet_status wavenet_stream_seed(wavenet_stream* stream, uint64_t seed);
/* What the network computed for the newest sample; zeros in a stream or copy that has generated none. They allocate nothing,
 * take no lock and make no system call.
 * gates: the gated activation z = tanh(a) sigmoid(b) of every layer, [layers][G], with G = wavenet_model_gate_channels.
 * watch: the layer whose a and b are kept from the next sample on; -1: none.
 * watched: a and b of that layer, [2][G]; zeros if it is muted. */
WAVENET_API wavenet_status wavenet_stream_gates(const wavenet_stream* stream, float* z);
WAVENET_API wavenet_status wavenet_stream_watch(wavenet_stream* stream, int layer);
WAVENET_API wavenet_status wavenet_stream_watched(const wavenet_stream* stream, float* ab);

/* Not in real time: these may allocate and take long.
 * prepare: computes what must be known before the first sample (of models of two tiers and of refined streams some
 *     frames ahead, which the first `process` does otherwise); and sets the number of threads from now on, the caller's
 *     included; 0 finds the fastest number by measuring. Without it: one.
 * prime: continues as if these samples had been generated; no random numbers are used. Streams of two tiers and refined
 *     ones only before their first sample, and before `prepare`.
 * reset: starts again, with another seed; the controls stay. Not beside push and end.
 * refine: iterations that make the audio agree with its features, before the first sample; 0: none. A new stream uses
 *     those stored in the model. The audio is then computed about 70 ms ahead. */
WAVENET_API wavenet_status wavenet_stream_prepare(wavenet_stream* stream, int threads);
WAVENET_API wavenet_status wavenet_stream_prime(wavenet_stream* stream, const float* audio, size_t n);
WAVENET_API wavenet_status wavenet_stream_reset(wavenet_stream* stream, uint64_t seed);
WAVENET_API wavenet_status wavenet_stream_refine(wavenet_stream* stream, int iterations);

/* Controls: any thread, at any time; they act within 64 samples of the block that is being processed. ----------------- */

/* From 0 (the most probable code) upwards; 1 is the distribution that was learnt. For models of two tiers it is the
 * temperature of the frames, which changes the character and not the loudness. */
WAVENET_API wavenet_status wavenet_stream_set_temperature(wavenet_stream* stream, double temperature);
/* The temperature in voiced frames of a model with features; NaN: the same as in others. */
WAVENET_API wavenet_status wavenet_stream_set_voiced_temperature(wavenet_stream* stream, double temperature);
/* From the k most probable codes only; 0: from all. Not for 16-bit outputs. */
WAVENET_API wavenet_status wavenet_stream_set_top_k(wavenet_stream* stream, int k);
/* From the smallest set of codes with this total probability; 1: from all. */
WAVENET_API wavenet_status wavenet_stream_set_top_p(wavenet_stream* stream, double p);
/* Shares [speakers] from 0, of which at least one is above 0; they are divided by their sum. */
WAVENET_API wavenet_status wavenet_stream_set_speakers(wavenet_stream* stream, const float* shares, int speakers);
/* The layers whose gated activation is 0, n indices; n = 0: none. */
WAVENET_API wavenet_status wavenet_stream_set_mute(wavenet_stream* stream, const int* layers, int n);
/* Of models of two tiers: pitch in Hz and loudness in dB of the frames that are drawn from now on; NaN: free. */
WAVENET_API wavenet_status wavenet_stream_set_pitch(wavenet_stream* stream, double hertz);
WAVENET_API wavenet_status wavenet_stream_set_loudness(wavenet_stream* stream, double decibels);

/* Analysis ---------------------------------------------------------------------------------------------------------- */

/* Computes the log-mel frames of incoming audio for `wavenet_stream_push`, so that a voice can be vocoded live.
 * max_block: the largest n of `wavenet_analysis_process`. NULL: failed, or the model needs no features. Used by one
 * thread at a time. */
WAVENET_API wavenet_analysis* wavenet_analysis_new(const wavenet_model* model, size_t max_block);
WAVENET_API void wavenet_analysis_free(wavenet_analysis* analysis);
/* Adds n samples at the model's sample rate, and writes the frames that are then complete, [*written][bands], to `frames`,
 * which has room for `wavenet_analysis_room` of them. Samples are limited to [-2, 2], so that a stream takes the frames.
 * Allocates nothing, takes no lock and makes no system call. */
WAVENET_API wavenet_status wavenet_analysis_process(wavenet_analysis* analysis, const float* audio, size_t n,
                                                    float* frames, size_t* written);
/* The most frames that one call writes, for blocks of max_block. */
WAVENET_API size_t wavenet_analysis_room(const wavenet_analysis* analysis);
/* Writes the frames of the end, as if silence followed, and starts again. */
WAVENET_API wavenet_status wavenet_analysis_end(wavenet_analysis* analysis, float* frames, size_t* written);

#ifdef __cplusplus
}
#endif

#endif
