"""Store in a model file which levels and pitches it was trained on, if it was trained before that was stored.

    python samples/training_range.py samples/made/vocoder.safetensors TRAIN --recipe vocoder

They are measured as at the start of `wavenet train TRAIN --recipe vocoder`; the weights stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from wavenet import checkpoint
from wavenet.data import dataset
from wavenet.training import recipe as recipes
from wavenet.training.run_policy import with_recorded_levels, with_training_range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", required=True)
    options = parser.parse_args()
    config, _ = checkpoint.read_model(options.model)
    recipe = dataclasses.replace(
        recipes.load(options.recipe), model=dataclasses.replace(config, training_range=None, recorded_levels=None)
    )
    recordings = dataset.open_folder(options.folder, config.sample_rate, recipe.data)
    model = with_recorded_levels(with_training_range(recipe, recordings), recordings).model
    found = {"training_range": model.training_range, "recorded_levels": model.recorded_levels}
    measured = {name: value for name, value in found.items() if value is not None}
    if not measured:
        parser.error("the recordings are silent")
    checkpoint.update_config(options.model, **measured)
    print(*measured.values())


if __name__ == "__main__":
    main()
