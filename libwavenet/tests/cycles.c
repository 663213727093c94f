/* Opens a model, plays a block with two threads, and closes everything, again and again: for valgrind.
 *
 *     cycles MODEL.safetensors PRECISION CYCLES
 */
#include <stdio.h>
#include <stdlib.h>

#include "wavenet.h"

#define BLOCK 32

static int fail(void) {
    fprintf(stderr, "%s\n", wavenet_last_error());
    return 1;
}

int main(int count, char** arguments) {
    if (count != 4) return fputs("usage: cycles MODEL.safetensors PRECISION CYCLES\n", stderr), 2;
    for (int cycle = 0; cycle < atoi(arguments[3]); ++cycle) {
        wavenet_model* model;
        if (wavenet_model_open(arguments[1], arguments[2], &model)) return fail();
        wavenet_stream* const stream = wavenet_stream_new(model, cycle, BLOCK);
        wavenet_model_close(model); /* the stream keeps it */
        float out[BLOCK];
        if (!stream || wavenet_stream_prepare(stream, 1 + cycle % 2)) return fail();
        const wavenet_status status = wavenet_stream_process(stream, out, BLOCK);
        if (status != WAVENET_OK && status != WAVENET_STARVED) return fail();
        wavenet_stream* const copy = wavenet_stream_copy(stream);
        if (!copy) return fail();
        wavenet_stream_free(stream);
        wavenet_stream_free(copy);
    }
    return 0;
}
