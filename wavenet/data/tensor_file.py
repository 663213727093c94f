"""Read and write .safetensors files with NumPy (format: https://huggingface.co/docs/safetensors).

    8 bytes    length N of the header, little-endian
    N bytes    JSON: {"__metadata__": {name: text}, tensor: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, ...}
    the rest   the tensors' values, little-endian and row-major, without gaps and in any order

Nothing in such a file can run code. The `safetensors` package is not used: when memory runs out it prints a panic and
raises what no `except Exception` catches, and it writes the metadata in random order. Whatever it refuses to read is
refused here, too.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.data.errors import printable

Tensors = dict[str, NDArray[Any]]
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
    "BF16": np.dtype("V2"),  # which NumPy does not have: read as bytes
    "F8_E4M3": np.dtype("V1"),
    "F8_E5M2": np.dtype("V1"),
}
METADATA = "__metadata__"
MAX_HEADER_BYTES = 2**24  # a thousand layers take half a megabyte
MAX_DIMENSIONS = 8
MAX_SIZE = 2**48  # of a dimension, a tensor and a file
ALIGNMENT = 8  # bytes: of the first tensor, by spaces at the end of the header


class TensorFileError(ValueError):
    """Content that is not a whole .safetensors file; the message says what is wrong with it."""


class Entry(NamedTuple):
    """A tensor as the header describes it."""

    dtype: str  # of `DTYPES`
    shape: tuple[int, ...]
    begin: int  # bytes after the header
    end: int


class Header(NamedTuple):
    """What a file says about its content."""

    metadata: dict[str, str]
    tensors: dict[str, Entry]  # in the order of their values


def read_header(path: str | os.PathLike[str]) -> Header:
    """Metadata, and the type and shape of every tensor; checked against the file's size. Raises as `read` does."""
    with open(path, "rb", opener=_open_regular) as file:
        return _header(file)


def read(path: str | os.PathLike[str]) -> tuple[Tensors, dict[str, str]]:
    """All tensors and the metadata. Raises `TensorFileError`, `OSError`, or `MemoryError`."""
    tensors: Tensors = {}
    with open(path, "rb", opener=_open_regular) as file:
        header = _header(file)
        for name, entry in header.tensors.items():
            count = math.prod(entry.shape)
            values = np.fromfile(file, DTYPES[entry.dtype], count)
            if len(values) != count:
                raise TensorFileError(f"it ends within the tensor {printable(name, 60)!r}")
            tensors[name] = values.reshape(entry.shape)
    return tensors, header.metadata


def encode(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The content of a file: the same tensors and metadata give the same bytes. Raises `ValueError` for other types."""
    names = {dtype: name for name, dtype in DTYPES.items() if dtype.kind != "V"}
    header: dict[str, Any] = {METADATA: dict(metadata)}
    values: list[NDArray[Any]] = []
    position = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # keeps all of them aligned
        tensor = tensors[name]
        dtype = tensor.dtype.newbyteorder("<")
        if dtype not in names:
            raise ValueError(
                f"the tensor {printable(name, 60)!r} is {tensor.dtype}, which a .safetensors file cannot hold"
            )
        end = position + tensor.nbytes
        header[name] = {"dtype": names[dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        values.append(np.ascontiguousarray(tensor, dtype))
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *(tensor.data for tensor in values)])


def _open_regular(path: str, flags: int) -> int:
    """Opens regular files only: a pipe would wait for a writer."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.open(path, flags)


def _header(file: BinaryIO) -> Header:
    """Read and check the header; leaves the file at the first value."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise TensorFileError("it ends within the header")
    if length > MAX_HEADER_BYTES:
        raise TensorFileError(f"a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are accepted")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise TensorFileError("no header of JSON at its start")
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"its header is no valid JSON: {str(error).splitlines()[0]}") from None
    metadata = _metadata(header.pop(METADATA, None))
    entries = {name: _entry(name, value) for name, value in header.items()}
    position = 0
    tensors = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    for name, entry in tensors.items():
        if entry.begin != position:
            raise TensorFileError(
                f"the tensor {printable(name, 60)!r} begins at byte {entry.begin:,}, not at {position:,}"
            )
        position = entry.end
    if position != size - 8 - length:
        raise TensorFileError(f"{position:,} bytes of tensors announced, {size - 8 - length:,} in the file")
    return Header(metadata, tensors)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key occurs twice")
    for key in table:
        key.encode()  # raises UnicodeEncodeError for half of a surrogate pair
    return table


def _metadata(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise TensorFileError("its metadata is no table of texts")
    return given


def _entry(name: str, given: Any) -> Entry:
    """A tensor's line of the header. Raises `TensorFileError` unless dtype, shape and offsets agree."""
    if not isinstance(given, dict) or given.keys() != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(f"the tensor {printable(name, 60)!r} has other fields than dtype, shape, data_offsets")
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise TensorFileError(f"the tensor {printable(name, 60)!r} has an unknown dtype")
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS or math.prod(filter(None, shape)) >= MAX_SIZE:
        raise TensorFileError(f"the tensor {printable(name, 60)!r} has an impossible shape")
    if not _sizes(offsets) or len(offsets) != 2:
        raise TensorFileError(f"the tensor {printable(name, 60)!r} has impossible offsets")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise TensorFileError(f"the tensor {printable(name, 60)!r} has offsets that do not fit its shape")
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _sizes(values: Any) -> bool:
    """Whether it is a list of whole numbers that a file's sizes can be."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < MAX_SIZE for value in values)
