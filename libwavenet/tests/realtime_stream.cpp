// As realtime.cpp, through the C interface: counts allocations, locks and system calls of a thread that plays a model.
//
//     realtime_stream MODEL.safetensors PRECISION THREADS
//
// Exits with 1 if there are some, with 77 if the system does not let a process count its system calls.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "realtime_counters.h"
#include "wavenet.h"

namespace {

constexpr int UNSUPPORTED = 77;
constexpr std::size_t BLOCK = 100;
constexpr int BLOCKS = 20;
constexpr int REFINED_FRAMES = 20;  // that refinement needs in advance, at most

void check(wavenet_status status) {
    if (status == WAVENET_OK) return;
    std::fprintf(stderr, "status %d: %s\n", int(status), wavenet_last_error());
    std::exit(1);
}

}  // namespace

int main(int, char** arguments) {
    const int threads = std::atoi(arguments[3]);
    wavenet_model* model = nullptr;
    check(wavenet_model_open(arguments[1], arguments[2], &model));
    wavenet_stream* const stream = wavenet_stream_new(model, 7, BLOCK);
    if (!stream) check(WAVENET_INVALID);
    check(wavenet_stream_prepare(stream, threads));
    const int bands = wavenet_model_bands(model), speakers = wavenet_model_speakers(model);
    const std::vector<float> frame(bands, -4.0f), shares(speakers, 1.0f);
    const int muted[] = {1, 2};
    std::vector<float> out(BLOCK);

    const bool counted = wavenet::forbid();
    wavenet_status worst = WAVENET_OK;
    const auto keep = [&](wavenet_status status) {
        if (status != WAVENET_OK) worst = status;
    };
    const std::size_t hop = bands ? wavenet_model_hop(model) : 1;
    const std::size_t ahead = wavenet_model_look_ahead(model) + 1 + REFINED_FRAMES;
    std::size_t pushed = 0;
    for (int block = 0; block < BLOCKS; ++block) {
        while (bands && pushed < (block + 1) * BLOCK / hop + ahead) {
            keep(wavenet_stream_push(stream, frame.data(), 1, nullptr));
            ++pushed;
        }
        if (block == 3) keep(wavenet_stream_set_temperature(stream, 0.8));
        if (block == 5) keep(wavenet_stream_set_top_p(stream, 0.9));
        if (block == 7) keep(wavenet_stream_set_mute(stream, muted, 2));
        if (block == 9 && speakers) keep(wavenet_stream_set_speakers(stream, shares.data(), speakers));
        keep(wavenet_stream_process(stream, out.data(), BLOCK));
        for (int i = 0; i < 20000; ++i) out[0] = std::sin(out[0]);  // the workers fall asleep
    }
    const wavenet::Violations found = wavenet::violations();

    const bool right = !found.allocations && !found.locks && !found.system_calls && worst == WAVENET_OK;
    if (!right)
        std::fprintf(stderr, "status %d; %ld allocations, %ld locks, %ld system calls (last: %d)\n", int(worst),
                     found.allocations, found.locks, found.system_calls, found.system_call);
    _exit(counted ? !right : UNSUPPORTED);
}
