// Plays a model and changes it while it plays, with libwavenet and PortAudio:
//
//     c++ -std=c++17 live.cpp $(pkg-config --cflags --libs wavenet portaudio-2.0) -o live
//     ./live speech.safetensors
//
// Then type, for example, "t 0.9" (temperature), "m 3" (mute layer 3), "u" (unmute all) or "q" (quit).
#include <portaudio.h>
#include <wavenet.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

// Called by the sound device's thread, which must never wait: `wavenet_stream_process` never does.
static int play(const void*, void* out, unsigned long n, const PaStreamCallbackTimeInfo*, PaStreamCallbackFlags,
                void* stream) {
    wavenet_stream_process(static_cast<wavenet_stream*>(stream), static_cast<float*>(out), n);
    return paContinue;
}

static int failed(const char* reason) { return std::fprintf(stderr, "%s\n", reason), 1; }

int main(int count, char** arguments) {
    constexpr unsigned long BLOCK = 256;
    if (count < 2) return failed("usage: live MODEL");
    wavenet_model* opened = nullptr;
    if (wavenet_model_open(arguments[1], "int8", &opened)) return failed(wavenet_last_error());
    const std::unique_ptr<wavenet_model, decltype(&wavenet_model_close)> model(opened, wavenet_model_close);
    const std::unique_ptr<wavenet_stream, decltype(&wavenet_stream_free)> stream(
        wavenet_stream_new(model.get(), 0, BLOCK), wavenet_stream_free);
    if (!stream || wavenet_stream_prepare(stream.get(), 0)) return failed(wavenet_last_error());

    PaStream* device = nullptr;
    PaError error = Pa_Initialize();
    if (!error)
        error = Pa_OpenDefaultStream(&device, 0, 1, paFloat32, wavenet_model_sample_rate(model.get()), BLOCK, play,
                                     stream.get());
    if (!error) error = Pa_StartStream(device);
    if (error) return failed(Pa_GetErrorText(error));

    for (std::string line; std::cout << "> " << std::flush, std::getline(std::cin, line) && line != "q";) {
        const double value = line.size() > 2 ? std::atof(line.c_str() + 2) : 0;
        const int layer = int(value);
        wavenet_status status = WAVENET_OK;
        if (line[0] == 't') status = wavenet_stream_set_temperature(stream.get(), value);
        if (line[0] == 'm') status = wavenet_stream_set_mute(stream.get(), &layer, 1);
        if (line[0] == 'u') status = wavenet_stream_set_mute(stream.get(), nullptr, 0);
        if (status) std::cout << wavenet_last_error() << "\n";
    }
    Pa_Terminate();
    return 0;
}
