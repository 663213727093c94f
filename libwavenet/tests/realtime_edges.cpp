// As realtime_stream.cpp, of what is easily forgotten: the first block without `prepare`, a copy up to the end of its
// features, and calls that are refused.
//
//     realtime_edges MODEL.safetensors
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <vector>

#include "realtime_counters.h"
#include "wavenet.h"

int main(int, char** arguments) {
    constexpr std::size_t BLOCK = 256, FRAMES = 300;
    wavenet_model* model = nullptr;
    if (wavenet_model_open(arguments[1], "int8", &model)) return std::fprintf(stderr, "%s\n", wavenet_last_error()), 1;
    wavenet_stream* const stream = wavenet_stream_new(model, 7, BLOCK);
    const std::size_t bands = std::size_t(wavenet_model_bands(model));
    const std::vector<float> frames(FRAMES * bands, -4.0f), wrong(bands, NAN);
    if (bands) {
        wavenet_stream_refine(stream, 4);
        wavenet_stream_push(stream, frames.data(), FRAMES, nullptr);
    }
    wavenet_stream* const copy = wavenet_stream_copy(stream);
    if (bands) wavenet_stream_end(copy);
    std::vector<float> out(BLOCK + 1);
    const std::size_t channels = std::size_t(wavenet_model_gate_channels(model));
    std::vector<float> z(channels * std::size_t(wavenet_model_layers(model))), ab(2 * channels);

    const bool counted = wavenet::forbid();
    wavenet_stream_process(stream, out.data(), BLOCK);
    wavenet_stream_watch(stream, 1);
    wavenet_stream_seed(stream, 5);
    wavenet_stream_process(stream, out.data(), BLOCK);
    wavenet_stream_gates(stream, z.data());
    wavenet_stream_watched(stream, ab.data());
    for (std::size_t block = 0; block < 2 + (bands ? FRAMES * wavenet_model_hop(model) / BLOCK : 0); ++block)
        wavenet_stream_process(copy, out.data(), BLOCK);
    const bool refused = wavenet_stream_process(stream, out.data(), BLOCK + 1) == WAVENET_INVALID &&
                         wavenet_stream_push(stream, bands ? wrong.data() : out.data(), 1, nullptr) == WAVENET_INVALID;
    const wavenet::Violations found = wavenet::violations();

    const bool right = refused && !found.allocations && !found.locks && !found.system_calls;
    if (!right)
        std::fprintf(stderr, "refused: %d; %ld allocations, %ld locks, %ld system calls (last: %d)\n", int(refused),
                     found.allocations, found.locks, found.system_calls, found.system_call);
    _exit(counted ? !right : 77);
}
