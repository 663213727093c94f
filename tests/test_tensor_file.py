"""Files of tensors: what is written is read again, damaged files are refused, too little memory is one line."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from wavenet.data import tensor_file
from wavenet.data.tensor_file import TensorFileError, Tensors

METADATA = {"wavenet.format": "1", "names": "änn \n \x7f \U0001f3b5"}


def arrays() -> Tensors:
    rng = np.random.default_rng(0)
    kinds = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
    tensors: Tensors = {f"{kind} {n}": (9 * rng.random((n, 3))).astype(kind) for kind in kinds for n in (0, 2)}
    tensors["transposed"] = rng.random((4, 5)).astype(np.float32).T
    tensors["scalar"] = np.array(2.5, np.float32)
    return tensors


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array), name
        assert found[name].shape == array.shape


def test_files_of_the_package_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    expected = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays().items()}
    file.write_bytes(safetensors.numpy.save(expected, METADATA))
    tensors, metadata = tensor_file.read(file)
    assert_equal(tensors, expected)
    assert metadata == METADATA
    header = tensor_file.read_header(file)
    assert {name: entry.shape for name, entry in header.tensors.items()} == {n: a.shape for n, a in expected.items()}
    file.write_bytes(safetensors.numpy.save({}))
    assert tensor_file.read(file) == ({}, {})


def test_written_files_are_read_by_the_package_and_here(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(tensor_file.encode(arrays(), METADATA))
    with safetensors.safe_open(file, "np") as opened:
        assert opened.metadata() == METADATA
        assert_equal({name: opened.get_tensor(name) for name in opened.keys()}, arrays())
    assert_equal(tensor_file.read(file)[0], arrays())
    with pytest.raises(ValueError, match="'x' is complex128"):
        tensor_file.encode({"x": np.zeros(2, complex)}, {})


def test_damaged_files_are_refused_or_read_as_the_package_reads_them(tmp_path: Path) -> None:
    """Bytes changed at random in a small file, most of them in the header."""
    file, rng = tmp_path / "a.safetensors", random.Random(0)
    small = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.int64)}
    whole = tensor_file.encode(small, {"key": "text"})
    refused = 0
    for _ in range(1_500):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            position = rng.randrange(len(whole) - 40)
            action = rng.randrange(3)
            if action == 0:
                content[position] = rng.randrange(256)
            elif action == 1:
                content[position] = rng.choice(b'0123456789-.e[]{}:,"\\ ')
            else:
                del content[position]
        file.write_bytes(content)
        try:
            tensors, _ = tensor_file.read(file)
        except TensorFileError:
            refused += 1
        else:
            assert_equal(tensors, safetensors.numpy.load(bytes(content)))
    assert refused > 500


def with_header(header: object, values: bytes = bytes(8)) -> bytes:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def entry(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        (2**62).to_bytes(8, "little") + b"{}",
        with_header("{", b""),
        with_header("{" * 20 + '"a":' * 20, b""),
        with_header('{"a":' * 100_000, b""),
        with_header('{"a": {}, "a": {}}', b""),
        with_header('{"\\ud800": {}}', b""),
        with_header({}, b"12345678"),
        with_header({"__metadata__": {"a": 3}}, b""),
        with_header({"__metadata__": []}, b""),
        with_header({"a": 3}),
        with_header(entry(dtype="F31")),
        with_header(entry(dtype=["F32"])),
        with_header(entry(shape=[-2])),
        with_header(entry(shape=[2.0])),
        with_header(entry(shape=[True, 2])),
        with_header(entry(shape=2)),
        with_header(entry(shape=[10**400])),
        with_header(entry(shape=[3])),
        with_header(entry(data_offsets=[8, 0])),
        with_header(entry(data_offsets=[0, 8, 16])),
        with_header(entry(data_offsets=[8, 16]), bytes(16)),
        with_header(entry(), bytes(7)),
        with_header(entry(), bytes(9)),
        with_header({**entry(), **{"b": entry()["a"]}}),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    for read in (tensor_file.read, tensor_file.read_header):
        with pytest.raises(TensorFileError, match="."):
            read(file)


def test_dimensions_that_no_array_can_have_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(with_header(entry(shape=[0, 2**47, 2**47], data_offsets=[0, 0]), b""))
    with pytest.raises(TensorFileError, match=r"'a' is not of the shape \[0, 1407"):
        tensor_file.read(file)


def test_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with open(file, "wb") as content:
        content.write((2**25).to_bytes(8, "little"))
        content.truncate(2**26)
    with pytest.raises(TensorFileError, match="."):
        tensor_file.read(file)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_pipes_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            tensor_file.read(path)


LIMITED = """
import resource, sys
from wavenet.checkpoint import CheckpointError, read_model, read_tensors
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000, used + 30_000_000))
try:
    (read_model if "model" in sys.argv[1] else read_tensors)(__import__("pathlib").Path(sys.argv[1]))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors"])
def test_too_little_memory_is_one_line(tmp_path: Path, name: str) -> None:
    from wavenet.config import ModelConfig

    config = ModelConfig(residual_channels=400, skip_channels=256)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in config.shapes.items()}
    metadata = {"wavenet.format": "1", "wavenet.config": json.dumps(config.to_dict())}
    file = tmp_path / name
    file.write_bytes(tensor_file.encode(tensors, metadata))
    assert file.stat().st_size > 40e6
    done = subprocess.run([sys.executable, "-c", LIMITED, str(file)], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"{file}: not enough free memory to read its ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert done.returncode == 0
