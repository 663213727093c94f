"""Train the base model that `wavenet train --recipe voice` starts from: a frame model of many voices beside a vocoder.

    python samples/voice_base.py VOICES samples/made/vocoder-universal.safetensors -o voice-base.safetensors

VOICES has a sub-folder for each voice. Every voice is normalised by itself, and is there at several pitches, with its
formants and at the same tempo, so that low and high voices are seen, too. The frame model does not know which voice it
hears: a new one starts in between. The vocoder is copied as it is. The weights are written in float16.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from wavenet import checkpoint
from wavenet.config import FrameModelConfig, MelConfig
from wavenet.data import audio
from wavenet.features import mel_spectrogram
from wavenet.frame_coding import FrameCoding, loudness
from wavenet.training.frame_batches import FrameClips
from wavenet.training.frame_training import FROM_SCRATCH, FrameTrainer, frame_model_from, held_out_nats, new_frame_model
from wavenet.training.recorded_frames import DITHER, frame_pitch
from wavenet.two_tiers import TwoTiers

Frames = NDArray[np.float32]

PITCHES = (1.0, 0.64, 0.8, 1.25)  # factors
LEAST_FILES = 10  # of a voice
LONGEST = 60_000  # frames of a voice at one pitch, 10 minutes
HELD_OUT = 0.03  # share of the files of each voice
QUIET = 4.6  # nepers below the loudest frames: 40 dB
PAUSE = 30  # frames of a pause that are kept


class Clip(NamedTuple):
    """A recording as log-mel frames [N, bands], and their pitch [N] in Hz."""

    frames: Frames
    pitch: Frames


def read_clip(file: Path, mel: MelConfig, pitch: float, rng: np.random.Generator) -> Clip:
    """A recording, with dither, at `pitch` times its pitch and its own tempo, without the middle of long pauses."""
    samples = soxr.resample(audio.read(file, mel.sample_rate), mel.sample_rate, mel.sample_rate / pitch)
    noise = DITHER * rng.standard_normal(len(samples))
    slower = dataclasses.replace(mel, hop=round(mel.hop / pitch))
    frames = mel_spectrogram((samples + noise).astype(np.float32), slower).T
    kept = short_of_pauses(frames)
    return Clip(frames[kept], frame_pitch(samples, slower)[kept])


def short_of_pauses(frames: Frames) -> NDArray[np.bool_]:
    """Frames [N, bands] without the middle of each pause, [N]: corpora of words consist of silence otherwise."""
    level = loudness(frames)
    quiet = level < np.quantile(level, 0.95) - QUIET
    run = np.zeros(len(frames), np.int64)  # quiet frames up to each one
    for index in range(1, len(frames)):
        run[index] = run[index - 1] + 1 if quiet[index] else 0
    return run < PAUSE


def voices_in(folder: Path, mel: MelConfig) -> tuple[list[list[Clip]], list[list[Clip]]]:
    """Training and held-out clips of each voice at each pitch."""
    training, held_out = [], []
    for voice in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in voice.rglob("*") if path.suffix.lower() in audio.AUDIO_EXTENSIONS)
        if len(files) < LEAST_FILES:
            continue
        order = np.random.default_rng(0).permutation(len(files))
        split = max(1, round(HELD_OUT * len(files)))
        for pitch in PITCHES:
            rng, parts = np.random.default_rng(0), []
            for chosen in (order[split:], order[:split]):
                clips: list[Clip] = []
                for index in chosen:
                    if frames_in(clips) < LONGEST:
                        clips.append(read_clip(files[index], mel, pitch, rng))
                parts.append(clips)
            training.append(parts[0])
            held_out.append(parts[1])
        print(f"{voice.name}: {frames_in(training[-1]) * mel.hop / mel.sample_rate / 60:.1f} minutes", flush=True)
    return training, held_out


def frames_in(clips: list[Clip]) -> int:
    """The number of frames of clips."""
    return sum(len(clip.frames) for clip in clips)


def encoded(voices: list[list[Clip]], coding: FrameCoding, shared: FrameCoding) -> FrameClips:
    """Clips that are encoded with the coding of their voice; from then on they are of a single voice."""
    frames = [coding.encode(clip.frames, voice, clip.pitch) for voice, clips in enumerate(voices) for clip in clips]
    return FrameClips(shared, frames, [0] * len(frames))


def main() -> None:
    """Train, and write the model whenever the held-out recordings were measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", type=Path)
    parser.add_argument("vocoder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("voice-base.safetensors"))
    parser.add_argument("--minutes", type=float, default=45.0, help="of processor time")
    parser.add_argument("--start", type=Path, help="an earlier base model, which is trained on")
    parser.add_argument("--rate", type=float, default=FROM_SCRATCH.learning_rate, help="peak learning rate")
    options = parser.parse_args()
    vocoder = checkpoint.load_model(options.vocoder)
    mel = vocoder.config.features
    assert mel is not None, "not a vocoder"
    config = FrameModelConfig()
    voices, held_out = voices_in(options.voices, mel)
    joined = [Clip(*map(np.concatenate, zip(*clips, strict=True))) for clips in voices]
    base = None if options.start is None else checkpoint.load_model(options.start)
    normalised = [clip.frames for clip in joined], [clip.pitch for clip in joined]
    if isinstance(base, TwoTiers):  # its components are kept
        coding = base.frame_model.frame_coding.renormalised(*normalised)
    else:
        coding = FrameCoding.fit(normalised[0], mel, config.components, normalised[1])
    means = {name: getattr(coding, name).mean(0, keepdims=True) for name in ("mean", "loudness", "pitch")}
    shared = dataclasses.replace(coding, **means)
    training, validation = encoded(voices, coding, shared), encoded(held_out, coding, shared)
    torch.manual_seed(0)
    frame_model = new_frame_model(config, mel, training)
    if isinstance(base, TwoTiers):
        frame_model = frame_model_from(base.frame_model, training)
    settings = dataclasses.replace(FROM_SCRATCH, learning_rate=options.rate)
    trainer = FrameTrainer(frame_model, training, settings)
    model = TwoTiers(dataclasses.replace(vocoder.config, frame_model=config))
    started, measured = time.process_time(), 0.0
    while measured < options.minutes:
        spent = (time.process_time() - started) / 60
        trainer.update(spent / options.minutes)
        if spent >= min(measured + 1, options.minutes):
            measured = spent
            nats = held_out_nats(trainer.average, validation).total
            print(f"{spent:.1f} minutes, step {trainer.step:,}: {nats:.2f} nats per frame held out", flush=True)
            tiers = {f"frame_model.{name}": tensor for name, tensor in trainer.average.state_dict().items()}
            model.load_state_dict(vocoder.state_dict() | tiers)
            checkpoint.save_model(options.output, model, half=True)


if __name__ == "__main__":
    main()
