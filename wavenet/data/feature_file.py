"""Features as other programs read and write them: a .npy file of floats [bands, frames], and what they are beside it.

The parameters of FILE.npy stand in FILE.npy.json; those that do not are taken to be the model's own. NumPy only, so
that sound can be made of features without PyTorch.
"""

from __future__ import annotations

import dataclasses
import io
import json
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.config import ConfigError, MelConfig
from wavenet.data import files


class FeatureError(ValueError):
    """Features that cannot be used; the message is one line that names the file and says why."""


def read(path: str | PathLike[str], config: MelConfig) -> NDArray[np.float32]:
    """The features [bands, frames] of a file, for a model whose features are `config`.

    Raises `FeatureError` for what is no such file, for other shapes, and for parameters that differ, which are named.
    """
    file = Path(path)
    try:
        with open(file, "rb") as content:
            features = np.lib.format.read_array(content, allow_pickle=False)
    except OSError as error:
        raise FeatureError(f"{file}: {error.strerror or error}") from None
    except (ValueError, EOFError, MemoryError, RecursionError) as error:
        raise FeatureError(f"{file}: cannot be read as a .npy file of numbers ({str(error).splitlines()[0]})") from None
    parameters = _beside(file)
    if parameters.exists():
        _check_parameters(parameters, config)
    if not np.issubdtype(features.dtype, np.floating):
        raise FeatureError(f"{file}: holds no floating-point numbers; features are log-mel values [bands, frames]")
    if features.ndim == 3 and len(features) == 1:
        features = features[0]  # a batch of one, as acoustic models write it
    if features.ndim != 2 or features.shape[0] != config.bands or features.shape[1] == 0:
        hint = "; transpose it" if features.ndim == 2 and features.shape[1] == config.bands else ""
        raise FeatureError(
            f"{file}: is {list(features.shape)}; the model's bands = {config.bands} ask for "
            f"[{config.bands}, frames]{hint}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        features = features.astype(np.float32)
    if not np.isfinite(features).all():
        raise FeatureError(f"{file}: holds NaN, infinity or numbers beyond 1e38; replace those values first")
    return features


def _beside(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _check_parameters(path: Path, config: MelConfig) -> None:
    """Raises `FeatureError` for parameters that cannot be read, and for the first that is not the model's."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeatureError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise FeatureError(f"{path}: cannot be read as parameters of features ({error})") from None
    if not isinstance(values, dict):
        raise FeatureError(f"{path}: not a table of parameters")
    try:
        config.check_same(values)
    except ConfigError as error:
        raise FeatureError(f"{path}: {error}") from None


def write(path: str | PathLike[str], features: NDArray[np.float32], config: MelConfig) -> None:
    """Write features [bands, frames] and, beside them, their parameters. Raises `FeatureError`."""
    file = Path(path)
    if file.suffix != ".npy":
        raise FeatureError(f"{file}: name a file that ends in .npy")
    content = io.BytesIO()
    np.save(content, features.astype(np.float32))
    try:
        files.replace(file, content.getvalue())
        text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
        files.replace(_beside(file), text.encode())
    except OSError as error:
        raise FeatureError(f"{file}: cannot be written ({error.strerror or error})") from None
