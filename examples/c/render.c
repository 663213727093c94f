/* Generates a WAV file with libwavenet:
 *
 *     cc render.c $(pkg-config --cflags --libs wavenet) -o render
 *     ./render speech.safetensors out.wav 5 7        # five seconds with seed 7
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wavenet.h>

enum { BLOCK = 512 };

static void write_header(FILE* file, uint32_t sample_rate, uint32_t samples) { /* 32-bit floating point, one channel */
    const uint32_t bytes = 4 * samples;
    const uint32_t words[11] = {
        0x46464952,  36 + bytes,      0x45564157,   0x20746d66, 16,   1 << 16 | 3,
        sample_rate, 4 * sample_rate, 32 << 16 | 4, 0x61746164, bytes}; /* RIFF, WAVE, fmt, data */
    for (int i = 0; i < 11; ++i)
        for (int byte = 0; byte < 4; ++byte) fputc(words[i] >> 8 * byte & 255, file);
}

int main(int count, char** arguments) {
    if (count < 4) return fprintf(stderr, "usage: render MODEL OUT.wav SECONDS [SEED]\n"), 2;
    wavenet_model* model;
    if (wavenet_model_open(arguments[1], "int8", &model)) return fprintf(stderr, "%s\n", wavenet_last_error()), 2;
    const uint64_t seed = count > 4 ? strtoull(arguments[4], NULL, 10) : 0;
    wavenet_stream* stream = wavenet_stream_new(model, seed, BLOCK);
    FILE* file = fopen(arguments[2], "wb");
    if (!stream || !file)
        return fprintf(stderr, "%s\n", stream ? "the file cannot be written" : wavenet_last_error()), 1;

    const uint32_t sample_rate = (uint32_t)wavenet_model_sample_rate(model);
    const uint32_t samples = (uint32_t)(atof(arguments[3]) * sample_rate);
    write_header(file, sample_rate, samples);
    for (uint32_t done = 0; done < samples; done += BLOCK) {
        float block[BLOCK];
        const uint32_t n = samples - done < BLOCK ? samples - done : BLOCK;
        if (wavenet_stream_process(stream, block, n)) return fprintf(stderr, "%s\n", wavenet_last_error()), 1;
        fwrite(block, sizeof(float), n, file); /* on a little-endian machine */
    }
    fclose(file);
    wavenet_stream_free(stream);
    wavenet_model_close(model);
    return 0;
}
