"""Recipes: every one that comes with the package is valid, and errors name the key."""

import pytest

from wavenet import recipe
from wavenet.config import ConfigError


@pytest.mark.parametrize("name", ["tiny", "speech", "music", "large"])
def test_the_recipes_that_come_along(name):
    assert name in recipe.names()
    assert recipe.load(name).model.layers >= 10


def test_large_is_paper_sized():
    model = recipe.load("large").model
    assert (model.layers, model.residual_channels, model.skip_channels) == (30, 64, 256)


def test_no_recipe_is_the_defaults():
    assert recipe.load(None) == recipe.Recipe()


@pytest.mark.parametrize("name", [None, "tiny", "speech"])
def test_a_resolved_recipe_reads_back_equal(name, tmp_path):
    file = tmp_path / "recipe.toml"
    original = recipe.load(name, ["training.rate=1e-3", "data.join=true"])
    file.write_text(original.to_toml())
    assert recipe.load(file) == original


def test_overrides_are_typed():
    changed = recipe.load("tiny", ["training.batch=7", "data.join=true", "training.minutes=2", "model.output=mulaw"])
    assert changed.training.batch == 7
    assert changed.data.join is True
    assert changed.training.minutes == 2.0
    assert changed.model.output == "mulaw"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.bath=2", "training.bath: unknown key, did you mean 'batch'"),
        ("training.batch=two", "training.batch = 'two'"),
        ("training.batch=0", "training.batch = 0"),
        ("trainig.batch=2", r"\[trainig\]: unknown table, did you mean 'training'"),
        ("batch=2", "expected section.key=value"),
        ("training.batch", "expected section.key=value"),
    ],
)
def test_wrong_overrides_name_the_key(override, message):
    with pytest.raises(ConfigError, match=message):
        recipe.load("tiny", [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\ncycles = 0\n", "model.cycles"),
        ("[modl]\ncycles = 1\n", "modl"),
        ("cycles = 1\n", "cycles"),
        ("[model\n", "line 1"),
        ("[model]\nfeatures = 3\n", "features"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(text, message, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        recipe.load(file)
    assert str(file) in str(error.value)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="did you mean 'speech'.*tiny"):
        recipe.load("speach")
    with pytest.raises(ConfigError, match="no such recipe file"):
        recipe.load("none/here.toml")
