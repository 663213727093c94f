"""Read and write .safetensors files: the safetensors package checks and writes them, NumPy reads the values.

    8 bytes    length N of the header, little-endian
    N bytes    JSON: the metadata, and dtype, shape and place of every tensor
    the rest   the tensors' values, little-endian and row-major, one after the other without gaps

Nothing in such a file can run code. The values are not read by the package: where memory runs out, it prints a panic of
many lines and raises what no `except Exception` catches, while NumPy raises `MemoryError`.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from wavenet.data.errors import printable

Tensors = dict[str, NDArray[Any]]
DTYPES: dict[str, np.dtype[Any]] = {  # those that NumPy has
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
}


class TensorFileError(ValueError):
    """The content is not a complete .safetensors file. The message is the reason."""


class Entry(NamedTuple):
    """A tensor as the header describes it."""

    dtype: str  # such as "F32"
    shape: tuple[int, ...]


class Header(NamedTuple):
    """The header of a file."""

    metadata: dict[str, str]
    tensors: dict[str, Entry]  # in the order of their values in the file


def read_header(path: str | os.PathLike[str]) -> Header:
    """Metadata, and dtype and shape of every tensor; checked against the file's size. Raises as `read` does."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for a writer
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    try:
        with safetensors.safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.offset_keys()}
            tensors = {name: Entry(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            return Header(file.metadata() or {}, tensors)
    except safetensors.SafetensorError as error:
        raise TensorFileError(str(error).splitlines()[0]) from None


def read(path: str | os.PathLike[str]) -> tuple[Tensors, dict[str, str]]:
    """All tensors and the metadata. Raises `TensorFileError`, `OSError`, or `MemoryError`."""
    header = read_header(path)
    tensors: Tensors = {}
    with open(path, "rb") as file:
        file.seek(int.from_bytes(file.read(8), "little"), os.SEEK_CUR)
        for name, (dtype, shape) in header.tensors.items():
            if dtype not in DTYPES:
                raise TensorFileError(f"the tensor {printable(name, 60)!r} is {dtype}, which NumPy does not have")
            values = np.fromfile(file, DTYPES[dtype], math.prod(shape))
            try:
                tensors[name] = values.reshape(shape)
            except ValueError:  # cut short since its header was read, or no values in impossible dimensions
                raise TensorFileError(f"the tensor {printable(name, 60)!r} is not of the shape {list(shape)}") from None
    return tensors, header.metadata


def encode(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The content of a file. Raises `ValueError` for a tensor of a type that such files do not have."""
    for name, tensor in tensors.items():
        if tensor.dtype.newbyteorder("<") not in DTYPES.values():
            raise ValueError(
                f"the tensor {printable(name, 60)!r} is {tensor.dtype}, which a .safetensors file cannot hold"
            )
    plain = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    return safetensors.numpy.save(plain, dict(metadata))
