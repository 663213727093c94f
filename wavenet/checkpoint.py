"""Model files: weights as safetensors, with the configuration as JSON in the metadata.

There are two kinds: generators (`ModelConfig`) and labellers (`LabellerConfig`), whose metadata has `wavenet.network`.

Nothing that can run code is ever read. A missing, additional or misshapen tensor is an error. Every write is to a
temporary name, flushed to the disk and then renamed, so that an interruption leaves the old file or the new one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from wavenet.config import ConfigError, FeatureRange, ModelConfig, RecordedLevels, SamplingConfig, from_dict
from wavenet.data import files, tensor_file
from wavenet.data.errors import printable
from wavenet.data.tensor_file import Header, TensorFileError, Tensors
from wavenet.labelling_config import LabellerConfig

if TYPE_CHECKING:  # reading a model does not need torch
    from torch import nn

    from wavenet.labelling_model import LabellingNetwork
    from wavenet.model import WaveNet

FORMAT = "1"
LABELLER = "labeller"  # value of wavenet.network in the metadata of a labeller; generators have none
MODEL_NAME = "model.safetensors"  # of the model file in a run directory
WRITE_PERMISSIONS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

C = TypeVar("C", ModelConfig, LabellerConfig)
N = TypeVar("N", bound="nn.Module")


class CheckpointError(ValueError):
    """A file that cannot be used: one line that names it and the reason. `__cause__` is the `OSError`, if any."""


def save_model(path: str | os.PathLike[str], model: WaveNet | LabellingNetwork, half: bool = False) -> None:
    """Write a model file. half: in float16, which is half as large and rounds the weights to about three digits.

    Raises `CheckpointError` where it cannot be written.
    """
    dtype = np.float16 if half else np.float32
    tensors = {name: tensor.float().numpy(force=True).astype(dtype) for name, tensor in model.state_dict().items()}
    save_weights(path, model.config, tensors)


def save_weights(path: str | os.PathLike[str], config: ModelConfig | LabellerConfig, tensors: Tensors) -> None:
    """Write the model file of a configuration and its weights. Raises `CheckpointError` where it cannot be written."""
    metadata = {"wavenet.format": FORMAT, "wavenet.config": json.dumps(config.to_dict())}
    if isinstance(config, LabellerConfig):
        metadata["wavenet.network"] = LABELLER
    write_tensors(path, tensors, metadata)


def update_config(path: str | os.PathLike[str], **fields: SamplingConfig | FeatureRange | RecordedLevels) -> None:
    """Replace fields of the configuration in a model file or run directory, and nothing else in that file.

    Raises `CheckpointError` for a file that is not a model, does not support the values, or cannot be written.
    """
    file = model_file(path).resolve()  # a symbolic link stays one
    check_writable(file)
    config, _ = read_model(file)
    try:
        dataclasses.replace(config, **fields)  # type: ignore[arg-type]
    except ConfigError as error:
        raise _error(path, str(error)) from None
    tensors, metadata = read_tensors(file)  # as they are: perhaps in float16
    changed = {name: dataclasses.asdict(value) for name, value in fields.items()}
    values = {**json.loads(metadata["wavenet.config"]), **changed}
    write_tensors(file, tensors, {**metadata, "wavenet.config": json.dumps(values)})


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises `CheckpointError` if the file of a model, or the folder of that file, is read-only."""
    file = model_file(path).resolve()
    if not file.stat().st_mode & WRITE_PERMISSIONS:  # replacing it would only need the folder's
        raise _error(path, "is read-only; allow writing, or copy it")
    try:
        files.check_writable(file)
    except OSError as error:
        raise cannot_write(path, error) from error


def load_model(path: str | os.PathLike[str]) -> WaveNet:
    """The `WaveNet` of a model file or run directory, on the CPU, in evaluation mode; with a frame model `TwoTiers`.

    Raises `CheckpointError` for a file that is not exactly the model that its configuration describes.
    """
    import torch

    from wavenet.two_tiers import new_model

    config, tensors = read_model(path)
    with torch.device("meta"):  # no memory and no random initialisation: the weights are replaced below
        model = new_model(config)
    return _with_weights(model, tensors)


def load_labeller(path: str | os.PathLike[str]) -> LabellingNetwork:
    """The network of a labeller's model file or run directory, on the CPU, in evaluation mode.

    Raises `CheckpointError` for a file that is not exactly the model that its configuration describes.
    """
    import torch

    from wavenet.labelling_model import LabellingNetwork

    config, tensors = read_labeller(path)
    with torch.device("meta"):
        network = LabellingNetwork(config)
    return _with_weights(network, tensors)


def _with_weights(network: N, tensors: Tensors) -> N:
    """The network with these weights, in evaluation mode."""
    import torch

    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, assign=True)
    for weight in network.parameters():
        weight.requires_grad_(True)
    return network.eval()


def is_labeller(path: str | os.PathLike[str]) -> bool:
    """Whether a model file or run directory is that of a labeller. Raises `CheckpointError` if it cannot be read."""
    return read_header(model_file(path)).metadata.get("wavenet.network") == LABELLER


def read_model(path: str | os.PathLike[str]) -> tuple[ModelConfig, Tensors]:
    """Configuration and weights (float32) of a model file or run directory, without torch. Raises `CheckpointError`."""
    file = model_file(path)
    header = read_header(file)
    if header.metadata.get("wavenet.network") == LABELLER:
        raise _error(file, "a labeller, which generates no audio: use it with wavenet label")
    config = _read_config(file, header.metadata, ModelConfig)
    return config, _read_weights(file, header, config.shapes | config.frame_model_shapes)


def read_labeller(path: str | os.PathLike[str]) -> tuple[LabellerConfig, Tensors]:
    """Configuration and weights (float32) of a labeller, likewise. Raises `CheckpointError`."""
    file = model_file(path)
    header = read_header(file)
    if "wavenet.config" in header.metadata and header.metadata.get("wavenet.network") != LABELLER:
        raise _error(file, "not a labeller, but a model that generates audio: train one with --recipe labels")
    config = _read_config(file, header.metadata, LabellerConfig)
    return config, _read_weights(file, header, config.shapes)


def read_config(path: str | os.PathLike[str]) -> ModelConfig | LabellerConfig:
    """The configuration of a model file or run directory. The weights are not read, but their names and shapes.

    Raises `CheckpointError`.
    """
    file = model_file(path)
    header = read_header(file)
    if header.metadata.get("wavenet.network") == LABELLER:
        labeller = _read_config(file, header.metadata, LabellerConfig)
        _check_tensors(file, header, labeller.shapes)
        return labeller
    config = _read_config(file, header.metadata, ModelConfig)
    _check_tensors(file, header, config.shapes | config.frame_model_shapes)
    return config


def _read_weights(file: Path, header: Header, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """The tensors of a file as float32. Raises `CheckpointError` unless they are exactly those, and finite."""
    _check_tensors(file, header, shapes)
    tensors, _ = read_tensors(file)
    tensors = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise _error(file, f"the tensor {name!r} contains NaN or infinity: its training diverged")
    return tensors


def _check_tensors(file: Path, header: Header, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `CheckpointError` unless the tensors of a file have exactly these names and shapes."""
    for name in sorted(shapes.keys() | header.tensors.keys()):
        if name not in header.tensors:
            raise _error(file, f"the tensor {printable(name)!r} is missing")
        if name not in shapes:
            raise _error(file, f"the tensor {printable(name, 60)!r} does not belong to this network")
        found, expected = header.tensors[name], shapes[name]
        if found.dtype not in ("F32", "F16") or found.shape != expected:
            raise _error(
                file,
                f"the tensor {name!r} is {found.dtype} {list(found.shape)}; "
                f"its configuration requires F32 or F16 {list(expected)}",
            )


def model_file(path: str | os.PathLike[str]) -> Path:
    """The file of MODEL: the model file itself, or the best model of a run directory. Raises `CheckpointError`."""
    path = Path(path)
    if path.is_dir():
        inside = path / MODEL_NAME
        if not inside.is_file():
            raise _error(path, f"no {MODEL_NAME} in this folder; train one with: wavenet train FOLDER")
        return inside
    if not path.exists():
        raise _error(path, "no such file; MODEL is a .safetensors file or the run directory of wavenet train")
    return path


def read_header(path: Path) -> Header:
    """Metadata, tensor types and shapes of a safetensors file. Raises `CheckpointError`."""
    try:
        return tensor_file.read_header(path)
    except (OSError, TensorFileError, MemoryError) as error:
        raise _unreadable(path, error) from error


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """All tensors and the metadata of a safetensors file. Raises `CheckpointError`."""
    try:
        return tensor_file.read(path)
    except (OSError, TensorFileError, MemoryError) as error:
        raise _unreadable(path, error) from error


def write_tensors(path: str | os.PathLike[str], tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in one piece or not at all. Raises `CheckpointError`."""
    write_bytes(path, tensor_file.encode(tensors, metadata))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file in one piece: temporary name, flush, rename. Raises `CheckpointError`."""
    try:
        files.replace(Path(path), content)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | os.PathLike[str], error: OSError) -> CheckpointError:
    """The error to raise, from the `OSError`, where a path cannot be written."""
    return _error(path, f"cannot be written ({error.strerror or error})")


def _error(path: str | os.PathLike[str], reason: str) -> CheckpointError:
    return CheckpointError(f"{printable(path)}: {reason}")


def _read_config(file: Path, metadata: Mapping[str, str], kind: type[C]) -> C:
    if "wavenet.config" not in metadata:
        raise _error(file, "not a model of this toolkit (its metadata has no wavenet.config)")
    if metadata.get("wavenet.format") != FORMAT:
        found = printable(metadata.get("wavenet.format", "none"), 20)
        raise _error(file, f"file format {found!r}; this version reads {FORMAT!r}: a newer wavenet-toolkit may read it")
    try:
        values = json.loads(metadata["wavenet.config"])
        if not isinstance(values, dict):
            raise ConfigError("not a table of fields")
        return from_dict(kind, values)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise _error(file, f"its configuration cannot be used: {error}") from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error to raise for a file that cannot be read as safetensors."""
    if isinstance(error, MemoryError):
        megabytes = path.stat().st_size / 1e6
        return _error(path, f"not enough free memory to read its {megabytes:,.0f} MB; close other programs")
    if isinstance(error, OSError):
        return _error(path, f"cannot be read ({error.strerror or error})")
    return _error(path, _what_is_wrong(path, error))


def _what_is_wrong(path: Path, error: Exception) -> str:
    try:
        with open(path, "rb") as content:
            start = content.read(4)
    except OSError as unreadable:
        return unreadable.strerror or str(unreadable)
    if start.startswith(PICKLE_STARTS):
        return "a PyTorch pickle, which can run code when read; only .safetensors model files are read"
    if not start:
        return "the file is empty"
    return f"not a complete .safetensors file, perhaps truncated ({error})"
