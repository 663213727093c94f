"""Model files and run directories. Weights are data: safetensors, with the configuration as JSON in the metadata.

Nothing that can run code is ever read, every tensor is consumed exactly, and every write is to a temporary name,
flushed to the disk and then renamed, so that an interruption leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from wavenet.config import ConfigError, ModelConfig, from_dict
from wavenet.data import files

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:  # reading a model does not need torch
    from wavenet.model import WaveNet

FORMAT = "1"
Tensors = dict[str, NDArray[Any]]
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class CheckpointError(ValueError):
    """A file that cannot be used; the message is one line that names it and says why."""


def save_model(path: str | os.PathLike[str], model: WaveNet) -> None:
    """Write a model file. Raises `CheckpointError` when the place cannot be written."""
    metadata = {"wavenet.format": FORMAT, "wavenet.config": json.dumps(model.config.to_dict())}
    tensors = {name: tensor.detach().float().cpu().numpy() for name, tensor in model.state_dict().items()}
    write_tensors(path, tensors, metadata)


def load_model(path: str | os.PathLike[str]) -> WaveNet:
    """The `WaveNet` of a model file or run directory, on the CPU, in evaluation mode.

    Raises `CheckpointError` for whatever is not a model file of exactly the shape that it says it has.
    """
    import torch

    from wavenet.model import WaveNet

    config, tensors = read_model(path)
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        model = WaveNet(config)
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, assign=True)
    for weight in model.parameters():
        weight.requires_grad_(True)
    return model.eval()


def read_model(path: str | os.PathLike[str]) -> tuple[ModelConfig, Tensors]:
    """Configuration and weights (float32) of a model file or run directory, without torch. Raises `CheckpointError`."""
    file = model_file(path)
    metadata, shapes = _read_header(file)
    config = _config_of(file, metadata)
    for name in sorted(config.shapes.keys() | shapes.keys()):
        if name not in shapes:
            raise CheckpointError(f"{file}: the tensor {name!r} is missing")
        if name not in config.shapes:
            raise CheckpointError(f"{file}: the tensor {name!r} does not belong to this network")
        if shapes[name] != ("F32", config.shapes[name]):
            kind, shape = shapes[name]
            expected = f"F32 {list(config.shapes[name])}"
            raise CheckpointError(
                f"{file}: the tensor {name!r} is {kind} {list(shape)}; its configuration says {expected}"
            )
    tensors, _ = read_tensors(file)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(
                f"{file}: the tensor {name!r} holds NaN or infinity; the training that made it went wrong"
            )
    return config, tensors


def model_file(path: str | os.PathLike[str]) -> Path:
    """The model file that MODEL means: itself, or the best model of a run directory. Raises `CheckpointError`."""
    path = Path(path)
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            raise CheckpointError(f"{path}: no model.safetensors in this folder; train one with: wavenet train FOLDER")
        return inside
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file; MODEL is a .safetensors file or the run directory of wavenet train"
        )
    return path


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """All tensors and the metadata of a safetensors file. Raises `CheckpointError`."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{path}: {_why_unreadable(path, error)}") from None


def write_tensors(path: str | os.PathLike[str], tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in one piece or not at all. Raises `CheckpointError`."""
    plain = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    write_bytes(path, safetensors.numpy.save(plain, dict(metadata)))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file in one piece: temporary name, flush, rename. Raises `CheckpointError`."""
    try:
        files.replace(Path(path), content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error


@dataclass(frozen=True)
class RunDirectory:
    """Where a training run keeps everything: the recipe, the best model, the state to go on from, log and clips."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def model(self) -> Path:
        """Averaged weights, the best on validation."""
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        """Everything needed to go on: weights, their average, the optimizer's moments, the clock."""
        return self.path / "last" / "state.safetensors"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    def sample(self, step: int) -> Path:
        return self.path / "samples" / f"step_{step}.wav"

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.recipe.is_file()

    def check(self) -> None:
        """Raises `CheckpointError` where no run can be: in a file's place, or among files that are no run's."""
        if self.path.exists() and not self.path.is_dir():
            raise CheckpointError(f"{self.path}: is a file; name a folder for the run with --out")
        files = (entry for entry in self.path.rglob("*") if entry.is_file() and not entry.name.startswith("."))
        if not self.exists() and any(files):
            raise CheckpointError(f"{self.path}: holds other files and no run; name another folder with --out")

    def create(self) -> None:
        """Make the folders. Raises `CheckpointError` where they cannot be, or where something else lies already."""
        self.check()
        try:
            for folder in (self.state.parent, self.sample(0).parent):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be made ({error.strerror or error})") from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other trainings out. Raises `CheckpointError` when one is at work here; freed even by a kill."""
        with open(self.state.parent / ".lock", "w", encoding="utf-8") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise CheckpointError(
                        f"{self.path}: another training is at work here; name another --out"
                    ) from None
            yield

    def clear(self) -> None:
        """Remove what a run wrote here, but the recipe, which the next run replaces, and nothing else."""
        for file in (self.model, self.state, self.log, *self.path.glob("samples/step_*.wav")):
            file.unlink(missing_ok=True)

    def append_log(self, record: Mapping[str, Any]) -> None:
        """One line of JSON."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _read_header(file: Path) -> tuple[dict[str, str], dict[str, tuple[str, tuple[int, ...]]]]:
    try:
        with safetensors.safe_open(file, framework="np") as content:
            slices = {name: content.get_slice(name) for name in content.keys()}
            shapes = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            return content.metadata() or {}, shapes
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{file}: {_why_unreadable(file, error)}") from None


def _config_of(file: Path, metadata: Mapping[str, str]) -> ModelConfig:
    if "wavenet.config" not in metadata:
        raise CheckpointError(f"{file}: not a model of this toolkit (its metadata has no wavenet.config)")
    if metadata.get("wavenet.format") != FORMAT:
        found = metadata.get("wavenet.format")
        raise CheckpointError(
            f"{file}: file format {found!r}; this version reads {FORMAT!r}: a newer wavenet-toolkit may"
        )
    try:
        values = json.loads(metadata["wavenet.config"])
        if not isinstance(values, dict):
            raise ConfigError("not a table of fields")
        return from_dict(ModelConfig, values)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file}: its configuration cannot be used: {error}") from None


def _why_unreadable(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        with open(file, "rb") as content:
            start = content.read(4)
    except OSError as unreadable:
        return unreadable.strerror or str(unreadable)
    if start.startswith(PICKLE_STARTS):
        return "a PyTorch pickle, which can run code when read; only .safetensors model files are read"
    if not start:
        return "the file is empty"
    return f"not a whole .safetensors file, perhaps cut short ({str(error).splitlines()[0]})"
