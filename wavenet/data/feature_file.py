"""Feature files: log-mel features [bands, frames] in a .npy file, to exchange with other programs.

FILE.npy.json contains the parameters of the features in FILE.npy; missing ones are assumed to be those of the model.
NumPy only, so that audio is generated from features without PyTorch.
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
from wavenet.data.errors import printable


class FeatureError(ValueError):
    """A feature file cannot be used. The message is one line with the file and the reason."""


def read(path: str | PathLike[str], config: MelConfig) -> NDArray[np.float32]:
    """Read features [bands, frames] from a file, for a model with the feature parameters `config`.

    Raises `FeatureError` for a file that is not a .npy file of floating-point numbers of that shape, for NaN and
    infinity, and for parameters that differ from the model's.
    """
    file, name = Path(path), printable(path)
    try:
        with open(file, "rb") as content:
            features = np.lib.format.read_array(content, allow_pickle=False)
    except OSError as error:
        raise FeatureError(f"{name}: {error.strerror or error}") from None
    except (ValueError, EOFError, MemoryError, RecursionError) as error:
        raise FeatureError(f"{name}: cannot be read as a .npy file of numbers ({_first_line(error)})") from None
    parameters = _parameter_file(file)
    if parameters.exists():
        _check_parameters(parameters, config)
    if not np.issubdtype(features.dtype, np.floating):
        raise FeatureError(f"{name}: holds no floating-point numbers; features are log-mel values [bands, frames]")
    if features.ndim == 3 and len(features) == 1:
        features = features[0]  # a batch of one, as acoustic models write it
    if features.ndim != 2 or features.shape[0] != config.bands or features.shape[1] == 0:
        hint = "; transpose it" if features.ndim == 2 and features.shape[1] == config.bands else ""
        raise FeatureError(
            f"{name}: is {list(features.shape)}; the model requires [{config.bands}, frames], with "
            f"bands = {config.bands}{hint}"
        )
    with np.errstate(over="ignore"):  # values beyond float32 become infinity
        features = features.astype(np.float32)
    if not np.isfinite(features).all():
        raise FeatureError(f"{name}: contains NaN, infinity or numbers beyond 1e38; replace those values first")
    return features


def write(path: str | PathLike[str], features: NDArray[np.float32], config: MelConfig) -> None:
    """Write features [bands, frames] to `path`, and their parameters to `path`.json. Raises `FeatureError`."""
    file, name = Path(path), printable(path)
    if file.suffix != ".npy":
        raise FeatureError(f"{name}: give a file name that ends in .npy")
    content = io.BytesIO()
    np.save(content, features.astype(np.float32))
    parameters = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    try:
        files.replace(file, content.getvalue())
        files.replace(_parameter_file(file), parameters.encode())
    except OSError as error:
        raise FeatureError(f"{name}: cannot be written ({error.strerror or error})") from None


def _parameter_file(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _check_parameters(path: Path, config: MelConfig) -> None:
    """Raises `FeatureError` for parameters that cannot be read, and for the first one that is not the model's."""
    name = printable(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeatureError(f"{name}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise FeatureError(f"{name}: cannot be read as parameters of features ({_first_line(error)})") from None
    if not isinstance(values, dict):
        raise FeatureError(f"{name}: not a table of parameters")
    try:
        config.check_same(values)
    except ConfigError as error:
        raise FeatureError(f"{name}: {error}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
