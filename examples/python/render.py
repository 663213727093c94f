"""Generates a WAV file with libwavenet alone: no package, only the installed library, which `ctypes` loads.

    python render.py speech.safetensors out.wav 5 7        # five seconds with seed 7

The library is the file in the environment variable WAVENET_LIBRARY, or the one that the system finds.
"""

import ctypes
import ctypes.util
import os
import sys
import wave
from array import array

BLOCK = 512


def load() -> ctypes.CDLL:
    """The library, with the types of the functions that are used here; all of them are in wavenet.h."""
    library = ctypes.CDLL(os.environ.get("WAVENET_LIBRARY") or ctypes.util.find_library("wavenet") or "libwavenet.so")
    library.wavenet_last_error.restype = ctypes.c_char_p
    library.wavenet_model_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.wavenet_model_sample_rate.argtypes = [ctypes.c_void_p]
    library.wavenet_model_close.argtypes = [ctypes.c_void_p]
    library.wavenet_stream_new.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t]
    library.wavenet_stream_new.restype = ctypes.c_void_p
    library.wavenet_stream_process.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_float), ctypes.c_size_t]
    library.wavenet_stream_free.argtypes = [ctypes.c_void_p]
    return library


def main(model_file: str, output: str, seconds: float, seed: int = 0) -> None:
    """Generate `seconds` of audio, and write it as 16-bit samples."""
    library, model = load(), ctypes.c_void_p()
    if library.wavenet_model_open(os.fsencode(model_file), b"int8", ctypes.byref(model)):
        sys.exit(library.wavenet_last_error().decode())
    stream = library.wavenet_stream_new(model, seed, BLOCK)
    if not stream:
        sys.exit(library.wavenet_last_error().decode())
    sample_rate = library.wavenet_model_sample_rate(model)
    audio, block = array("h"), (ctypes.c_float * BLOCK)()
    while len(audio) < seconds * sample_rate:
        if library.wavenet_stream_process(stream, block, BLOCK):
            sys.exit(library.wavenet_last_error().decode())
        audio.extend(round(32_767 * sample) for sample in block)
    library.wavenet_stream_free(stream)
    library.wavenet_model_close(model)
    with wave.open(output, "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))
        file.writeframes(audio[: int(seconds * sample_rate)].tobytes())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 0)
