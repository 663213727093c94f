"""Reading recordings of any format, refusing other files, and writing audio."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.data.audio import AudioError
from wavenet.data.audio_writer import BLOCK

SAMPLE_RATE = 16_000


def sine(
    frequency: float = 440.0, seconds: float = 1.0, sample_rate: int = SAMPLE_RATE, level: float = 0.5
) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(
        np.float32
    )


def reason(path: Path | str, sample_rate: int = SAMPLE_RATE) -> str:
    with pytest.raises(AudioError) as caught:
        audio.read(path, sample_rate)
    assert len(str(caught.value).splitlines()) == 1
    assert os.path.basename(path) in str(caught.value)
    return caught.value.reason


def level_at(samples: NDArray[np.float32], frequency: float, sample_rate: int) -> float:
    """Amplitude of one frequency, by the dot product with it; the ends, where filters ring, are left out."""
    inner = samples[len(samples) // 10 : -len(samples) // 10].astype(np.float64)
    window = np.hanning(len(inner))
    wave = np.exp(-2j * np.pi * frequency * np.arange(len(inner)) / sample_rate)
    return float(2 * abs((inner * window * wave).sum()) / window.sum())


# 16 bits and more: half a step; mu-law and A-law: 1/64 of the value at most; the others by their nature.
@pytest.mark.parametrize(
    ("encoding", "error"),
    [
        ("PCM_16", 2**-15),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),
        ("FLOAT", 1e-9),
        ("DOUBLE", 1e-7),
        ("PCM_U8", 2**-7),
        ("ULAW", 0.5 / 16),
        ("ALAW", 0.5 / 16),
        ("IMA_ADPCM", 0.05),
        ("MS_ADPCM", 0.05),
        ("GSM610", 0.25),
    ],
)
def test_every_encoding_of_wav_is_read(tmp_path: Path, encoding: str, error: float) -> None:
    assert encoding in soundfile.available_subtypes("WAV")
    path, samples = tmp_path / "a.wav", sine()
    soundfile.write(path, samples, SAMPLE_RATE, subtype=encoding)
    read = audio.read(path, SAMPLE_RATE)
    assert read.dtype == np.float32
    assert read.ndim == 1
    assert len(samples) <= len(read) < len(samples) + 1_100  # ADPCM comes in blocks of about a thousand samples
    settled = slice(2_000, 14_000)
    assert np.abs(read[settled] - samples[settled]).max() <= error


@pytest.mark.parametrize(
    ("name", "container", "encoding"),
    [
        ("a.flac", "FLAC", "PCM_16"),
        ("a.flac", "FLAC", "PCM_24"),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.opus", "OGG", "OPUS"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
        ("a.aiff", "AIFF", "PCM_16"),
        ("a.aif", "AIFF", "FLOAT"),
        ("a.au", "AU", "PCM_16"),
        ("a.caf", "CAF", "PCM_16"),
        ("a.w64", "W64", "PCM_16"),
        ("a.rf64", "RF64", "PCM_16"),
    ],
)
def test_every_container_is_read(tmp_path: Path, name: str, container: str, encoding: str) -> None:
    path = tmp_path / name
    soundfile.write(path, sine(), SAMPLE_RATE, format=container, subtype=encoding)
    assert path.suffix in audio.AUDIO_EXTENSIONS
    read = audio.read(path, SAMPLE_RATE)
    assert len(read) == SAMPLE_RATE
    assert level_at(read, 440, SAMPLE_RATE) == pytest.approx(0.5, abs=0.02)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = np.full(1_000, 0.5), np.full(1_000, -0.25)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right, right, right], axis=1), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav", SAMPLE_RATE), (0.5 - 3 * 0.25) / 4)


def test_float_beyond_full_scale_is_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 3.0, -7.0, 0.25]), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", SAMPLE_RATE), np.array([0, 1, -1, 0.25], np.float32))
    unclipped = audio.read(tmp_path / "a.wav", SAMPLE_RATE, clip=False)
    np.testing.assert_array_equal(unclipped, np.array([0, 3, -7, 0.25], np.float32))


@pytest.mark.parametrize(
    ("source", "sample_rate"), [(44_100, 16_000), (8_000, 16_000), (48_000, 22_050), (11_025, 44_100)]
)
def test_resampling_keeps_frequency_level_and_length(tmp_path: Path, source: int, sample_rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1_000, seconds=3, sample_rate=source), source, subtype="FLOAT")
    read = audio.read(tmp_path / "a.wav", sample_rate)
    assert abs(len(read) - 3 * sample_rate) <= 1
    assert level_at(read, 1_000, sample_rate) == pytest.approx(0.5, rel=1e-3)
    # In time, too: a delay of one sample at 1 kHz would err by 0.5 x 2 pi / 16 = 0.2.
    inner = slice(sample_rate, 2 * sample_rate)
    assert np.abs(read[inner] - sine(1_000, seconds=3, sample_rate=sample_rate)[inner]).max() < 2e-3


def test_resampling_does_not_alias(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(11_000, seconds=2, sample_rate=44_100), 44_100, subtype="FLOAT")
    read = audio.read(tmp_path / "a.wav", SAMPLE_RATE)  # 11 kHz would come back as 16 - 11 = 5 kHz
    assert level_at(read, 5_000, SAMPLE_RATE) < 1e-5
    assert np.abs(read[1_000:-1_000]).max() < 1e-4


def test_blocks_are_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", sine(seconds=10, sample_rate=44_100), 44_100)
    pieces = list(audio.blocks(tmp_path / "a.flac", SAMPLE_RATE))
    assert len(pieces) > 5
    assert max(map(len, pieces)) <= BLOCK
    np.testing.assert_array_equal(np.concatenate(pieces), audio.read(tmp_path / "a.flac", SAMPLE_RATE))


def test_names_of_any_kind(tmp_path: Path) -> None:
    for name in ("with space.wav", "été ☃ 音.wav", "-.wav", "new\nline.wav", os.fsdecode(b"latin-\xe9.wav")):
        path = tmp_path / name
        path.write_bytes(wav_bytes())
        assert len(audio.read(path, SAMPLE_RATE)) == 1_000
        assert len(audio.read(str(path), SAMPLE_RATE)) == 1_000
    (tmp_path / "bad\nname \udce9.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError) as caught:
        audio.read(tmp_path / "bad\nname \udce9.wav", SAMPLE_RATE)
    str(caught.value).encode()  # printable anywhere
    assert "bad\\nname \\udce9.wav" in str(caught.value)


def wav_bytes(samples: int = 1_000, *, riff: int | None = None, data: int | None = None, after: bytes = b"") -> bytes:
    """A 16-bit mono WAV, its two sizes as they should be or as given."""
    content = (np.arange(samples) % 100 * 100).astype("<i2").tobytes()
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    body = b"WAVE" + header + b"data" + struct.pack("<I", len(content) if data is None else data) + content + after
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason(tmp_path / "folder.wav") == "a directory"
    assert reason(tmp_path / "link.wav") == "dangling link"
    assert "symbolic link" in reason(tmp_path / "loop.wav")
    assert reason(tmp_path / "gone.wav") == "no such file"
    assert reason(tmp_path / "empty.wav") == "empty file"
    assert reason(tmp_path / "pipe.wav") == "not a regular file"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes())

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the user who runs the tests may have every permission
    assert reason(path) == "no permission"


def test_files_without_audio(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("a shopping list\n" * 100)
    (tmp_path / "none.wav").write_bytes(wav_bytes(0))
    (tmp_path / "header.wav").write_bytes(wav_bytes()[:30])
    assert reason(tmp_path / "text.wav").startswith("unreadable: ")
    assert reason(tmp_path / "none.wav") == "no samples"
    assert reason(tmp_path / "header.wav").startswith("unreadable: ")


@pytest.mark.parametrize(
    ("value", "expected"), [(np.nan, "contains NaN"), (np.inf, "infinity"), (-np.inf, "infinity"), (1e30, "infinity")]
)
def test_values_that_are_not_finite(tmp_path: Path, value: float, expected: str) -> None:
    samples = sine(seconds=10)
    samples[150_000] = value  # not in the first block
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    assert expected in reason(tmp_path / "a.wav")
    assert expected in reason(tmp_path / "a.wav", 22_050)


def test_wav_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes()[:-500])
    assert reason(path) == "truncated: holds 1,500 of the 2,000 bytes announced"
    path.write_bytes(wav_bytes()[:-1])
    assert reason(path).startswith("truncated: ")


@pytest.mark.parametrize(("name", "container"), [("a.aiff", "AIFF"), ("a.wav", "RF64"), ("a.wav", "WAVEX")])
def test_other_containers_cut_short(tmp_path: Path, name: str, container: str) -> None:
    soundfile.write(tmp_path / name, sine(), SAMPLE_RATE, format=container, subtype="PCM_16")
    assert len(audio.read(tmp_path / name, SAMPLE_RATE)) == SAMPLE_RATE
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    assert reason(tmp_path / name).startswith("truncated: ")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_flac_cut_short(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * SAMPLE_RATE)
    soundfile.write(tmp_path / "a.flac", noise, SAMPLE_RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: int(share * len(content))])
    assert reason(tmp_path / "a.flac").startswith("truncated: holds ")
    assert "of the 2.00 seconds announced" in reason(tmp_path / "a.flac", 22_050)


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", sine(), SAMPLE_RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the 36-bit number of samples ends at byte 26; 0 is 'unknown'
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert len(audio.read(tmp_path / "a.flac", SAMPLE_RATE)) == SAMPLE_RATE


@pytest.mark.parametrize("announced", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000, 0x8000_0000])
def test_wav_from_a_pipe_is_read_to_its_end(tmp_path: Path, announced: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(riff=announced, data=announced))
    np.testing.assert_array_equal(
        audio.to_int16(audio.read(tmp_path / "a.wav", SAMPLE_RATE)), np.arange(1_000) % 100 * 100
    )


@pytest.mark.parametrize("riff", [0, 36, 0xFFFF_FFFF])
def test_wav_that_was_never_finished_is_read_to_its_end(tmp_path: Path, riff: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(riff=riff, data=0))
    assert len(audio.read(tmp_path / "a.wav", SAMPLE_RATE)) == 1_000


def test_empty_wav_with_notes_behind_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(0, after=b"LIST" + struct.pack("<I", 100) + bytes(100)))
    assert reason(tmp_path / "a.wav") == "no samples"


@pytest.mark.parametrize(("frames", "size"), [(0, 0), (0, 8), (0x3F80_0000, 0x7F00_0008), (2**32 - 1, 2**32 - 1)])
def test_aiff_from_a_pipe_is_read_to_its_end(tmp_path: Path, frames: int, size: int) -> None:
    soundfile.write(tmp_path / "a.aiff", sine(), SAMPLE_RATE, subtype="PCM_16")
    content = bytearray((tmp_path / "a.aiff").read_bytes())
    common, data = content.index(b"COMM"), content.index(b"SSND")
    content[4:8] = content[data + 4 : data + 8] = struct.pack(">I", size)
    content[common + 10 : common + 14] = struct.pack(">I", frames)
    (tmp_path / "a.aiff").write_bytes(content)
    assert len(audio.read(tmp_path / "a.aiff", SAMPLE_RATE)) == SAMPLE_RATE


def test_chunks_of_zeros_end(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE" + bytes(1_000_000))
    assert reason(tmp_path / "a.wav").startswith("unreadable: ")


def test_trim_by_hand() -> None:
    samples = np.array([0, 0.004, 0.02, -1.0, 0.001, -0.011, 0.009, 0], np.float32)
    np.testing.assert_array_equal(audio.trim(samples, 40), samples[2:6])  # 40 dB below 1.0 is 0.01
    np.testing.assert_array_equal(
        audio.trim(samples / np.float32(8), 40), samples[2:6] / 8
    )  # relative to the clip's peak
    np.testing.assert_array_equal(audio.trim(samples, 20), samples[3:4])
    np.testing.assert_array_equal(audio.trim(samples, 0), samples)


def test_trim_leaves_silence_whole() -> None:
    assert len(audio.trim(np.zeros(100, np.float32), 40)) == 100
    assert len(audio.trim(np.zeros(0, np.float32), 40)) == 0


def test_read_trims(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(5_000), np.full(300, 0.5), np.zeros(7_000)])
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE)
    assert len(audio.read(tmp_path / "a.wav", SAMPLE_RATE)) == 12_300
    np.testing.assert_array_equal(
        audio.read(tmp_path / "a.wav", SAMPLE_RATE, trim_db=40), np.full(300, 0.5, np.float32)
    )


def test_silent_edges_by_hand() -> None:
    # Frames of 160 samples at 16 kHz. 0.5 at 0 dB; 0.01 is 34 dB below, 0.002 48 dB below.
    levels = [0, 0.002, 0.01, 0.5, 0.002, 0.5, 0.002]
    samples = np.repeat(np.array(levels, np.float32), 160)
    assert audio.silent_edges(samples, SAMPLE_RATE) == (2 * 160, 160)
    assert audio.silent_edges(np.append(samples, np.array([0.002] * 50, np.float32)), SAMPLE_RATE) == (2 * 160, 210)
    assert audio.silent_edges(np.append(samples, np.array([0.5] * 50, np.float32)), SAMPLE_RATE) == (2 * 160, 0)
    assert audio.silent_edges(np.zeros(1_000, np.float32), SAMPLE_RATE) == (0, 0)
    assert audio.silent_edges(np.zeros(0, np.float32), SAMPLE_RATE) == (0, 0)
    assert audio.silent_edges(np.array([0, 0, 1], np.float32), SAMPLE_RATE) == (0, 0)


def test_to_int16_is_the_inverse_of_reading() -> None:
    every = np.arange(-(2**15), 2**15).astype(np.int16)
    np.testing.assert_array_equal(audio.to_int16(every / np.float32(2**15)), every)
    np.testing.assert_array_equal(audio.to_int16([1.0, 2.0, -1.0, -9.0, 0.0]), [32_767, 32_767, -32_768, -32_768, 0])
    with pytest.raises(ValueError, match="NaN"):
        audio.to_int16([0.0, np.nan])


@pytest.mark.parametrize("name", ["a.wav", "b.flac", "C.WAV"])
def test_write_loses_no_16_bit_sample(tmp_path: Path, name: str) -> None:
    every = np.random.default_rng(0).permutation(np.arange(-(2**15), 2**15)).astype(np.int16)
    audio.write(tmp_path / name, every / np.float32(2**15), SAMPLE_RATE)
    assert os.listdir(tmp_path) == [name]
    assert soundfile.info(tmp_path / name).samplerate == SAMPLE_RATE
    np.testing.assert_array_equal(audio.to_int16(audio.read(tmp_path / name, SAMPLE_RATE)), every)


def test_write_ogg(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.ogg", sine(seconds=10), SAMPLE_RATE)
    read = audio.read(tmp_path / "a.ogg", SAMPLE_RATE)
    assert len(read) == 10 * SAMPLE_RATE
    assert level_at(read, 440, SAMPLE_RATE) == pytest.approx(0.5, abs=0.01)


def test_write_replaces_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    audio.write(tmp_path / "link.wav", sine(), SAMPLE_RATE)
    assert (tmp_path / "link.wav").is_symlink()
    assert len(audio.read(tmp_path / "a.wav", SAMPLE_RATE)) == SAMPLE_RATE


@pytest.mark.parametrize(
    ("name", "samples", "words"),
    [
        ("a.mp4", [0.0], "unknown extension: audio is written as .wav, .flac, .ogg"),
        ("a", [0.0], "unknown extension"),
        ("gone/a.wav", [0.0], "no such folder"),
        ("folder.wav", [0.0], "a directory"),
        ("a.wav", [0.0, float("nan")], "NaN"),
        ("a.flac", [], "at least one"),
        ("a.wav", [[0.0]], "shape"),
    ],
)
def test_write_refuses(tmp_path: Path, name: str, samples: list[float], words: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=words) as caught:
        audio.write(tmp_path / name, samples, SAMPLE_RATE)
    assert len(str(caught.value).splitlines()) == 1
    assert os.listdir(tmp_path) == ["folder.wav"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio.write(tmp_path / "a.wav", sine(), SAMPLE_RATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AudioError, match="No space left"):
        audio.write(tmp_path / "a.wav", sine(seconds=2), SAMPLE_RATE)
    assert os.listdir(tmp_path) == ["a.wav"]
    assert len(audio.read(tmp_path / "a.wav", SAMPLE_RATE)) == SAMPLE_RATE


def test_nothing_of_torch_is_imported() -> None:
    code = "import sys, wavenet.data.audio; sys.exit('torch' in sys.modules or 'librosa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
