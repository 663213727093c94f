"""Recipes: every one that comes with the package is valid, and errors name the key."""

from pathlib import Path

import pytest

from wavenet.config import ConfigError, DataConfig, MelConfig, ModelConfig
from wavenet.training import recipe


@pytest.mark.parametrize("name", ["tiny", "speech", "instruments", "large"])
def test_the_recipes_that_come_along(name: str) -> None:
    assert name in recipe.names()
    assert recipe.load(name).model.layers >= 10


def test_large_is_paper_sized() -> None:
    model = recipe.load("large").model
    assert (model.layers, model.residual_channels, model.skip_channels) == (30, 64, 256)


def test_universal_covers_voices_from_75_to_390_hertz() -> None:
    slowest, fastest = recipe.load("vocoder-universal").data.pitch_shift
    assert 180 * slowest <= 75
    assert 180 * fastest >= 390


@pytest.mark.parametrize(
    ("overrides", "hop", "periods"),
    [
        ([], 300, (48, 480)),
        (["model.features.window=1024", "model.features.fft=1024", "model.features.hop=256"], 256, (48, 480)),
        (
            ["model.sample_rate=22050", "model.features={window = 1024, fft = 1024, hop = 256, high = 8000}"],
            256,
            (44, 441),
        ),
    ],
)
def test_vocoders_at_24_and_22_khz(overrides: list[str], hop: int, periods: tuple[int, int]) -> None:
    features = recipe.load("vocoder-24k", overrides).model.features
    assert features is not None
    assert features.hop == hop
    assert features.pitch_periods == periods  # 500 to 50 Hz


def test_shifts_are_pairs_in_files_and_overrides() -> None:
    data = recipe.load("vocoder", ["data.pitch_shift=[0.5, 2]", "data.gain_shift=[-20, 6.5]"]).data
    assert data == DataConfig(pitch_shift=(0.5, 2.0), gain_shift=(-20.0, 6.5))
    with pytest.raises(ConfigError, match="data.pitch_shift = 2.0: expected two numbers"):
        recipe.load("vocoder", ["data.pitch_shift=2.0"])


def test_no_recipe_is_the_defaults() -> None:
    assert recipe.load(None) == recipe.Recipe()


@pytest.mark.parametrize("name", [None, *recipe.names()])
def test_a_resolved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    original = recipe.load(name, ["training.learning_rate=1e-3", "data.join=true"])
    file.write_text(original.to_toml())
    assert recipe.load(file) == original


FRAMES = """
[model]
sample_rate = 22050
output = "gaussian"
linear_prediction = 12
frame_network = "parallel"

[model.features]
hop = 256
bands = 40
scale = "htk"
area = false
"""


def test_the_table_of_features_survives(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(FRAMES)
    original = recipe.load(file, ["model.linear_prediction=20", "model.speakers=['änn', 'bob']"])
    model = original.model
    assert model.features == MelConfig(22_050, hop=256, bands=40, scale="htk", area=False)  # at the model's rate
    assert (model.linear_prediction, model.frame_network, model.speakers) == (20, "parallel", ("änn", "bob"))
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(original.to_toml())
    assert "[model.features]" in resolved.read_text().splitlines()
    assert recipe.load(resolved) == original
    assert "features" not in recipe.Recipe().to_toml()


def test_features_as_an_override() -> None:
    model = recipe.load("tiny", ["model.features={bands = 20, hop = 200}"]).model
    assert (model.features.bands, model.features.hop, model.features.fft) == (20, 200, 1_024)
    assert recipe.load("tiny", ["model.features={}", "model.output=logistic"]).model.features == MelConfig()


def test_overrides_are_typed() -> None:
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
        ("model.linear_prediction=8", "model.linear_prediction: needs a 16-bit output"),
        ("model.features={bands = 0}", "model.features.bands = 0"),
        ("model.features={band = 9}", "model.features.band: unknown key, did you mean 'bands'"),
        ("model.features=mel", "model.features = 'mel': expected a table"),
        ("model.speakers=ann", "model.speakers = 'ann': expected a list of names"),
    ],
)
def test_wrong_overrides_name_the_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.load("tiny", [override])


def test_crops_are_longer_than_the_past_that_linear_prediction_needs() -> None:
    adaptive = ["model.sample_rate=8000", "model.output=gaussian", "model.linear_prediction=8"]  # from 20 ms + 2.5 ms
    assert recipe.load(None, [*adaptive, "training.crop=181"]).model.prediction_reach == 180
    with pytest.raises(ConfigError, match=r"training.crop = 180: must be above 180"):
        recipe.load(None, [*adaptive, "training.crop=180"])


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
def test_a_wrong_file_is_named_with_its_key(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        recipe.load(file)
    assert str(file) in str(error.value)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'speech'.*tiny"):
        recipe.load("speach")
    with pytest.raises(ConfigError, match="no such recipe file"):
        recipe.load("none/here.toml")


def test_keys_of_tables_within_tables() -> None:
    loaded = recipe.load("vocoder", ["model.features.hop=80", "model.features.bands = 40"])
    assert (loaded.model.features.hop, loaded.model.features.bands) == (80, 40)
    with pytest.raises(ConfigError, match="cycles is not a table"):
        recipe.load(None, ["model.cycles=2", "model.cycles.more=1"])


CONTROL = [chr(code) for code in (*range(32), *range(127, 160))]
AWKWARD = ["\u2028", "\ufeff", "\uffff", "\U0001f3b5", '"', "'", "\\", "\\u0041", "#", "=", "[model]", "\t x ", "änn"]


@pytest.mark.parametrize("text", [*CONTROL, *AWKWARD, "".join(CONTROL + AWKWARD)], ids=ascii)
def test_every_character_survives_in_names(text: str, tmp_path: Path) -> None:
    file = tmp_path / "resolved.toml"
    names = (f"a{text}b", "plain", f"{text}{text}c")
    original = recipe.Recipe(ModelConfig(speakers=names), DataConfig(speakers=f"{text}.csv"))
    file.write_bytes(original.to_toml().encode())
    assert recipe.load(file) == original
    assert "\x7f" not in file.read_text()


def test_names_that_no_toml_file_can_hold_are_refused() -> None:
    """Surrogates, which stand for the bytes of a file name that is not UTF-8."""
    with pytest.raises(ConfigError, match="speakers.*not valid Unicode"):
        DataConfig(speakers="caf\udce9.csv")
    with pytest.raises(ConfigError, match="speakers.*not valid Unicode"):
        ModelConfig(speakers=("caf\udce9",))


@pytest.mark.parametrize("override", ["x" * 100_000, "model.cycles=" + "9" * 100_000, "x" * 100_000 + ".y=1"])
def test_long_overrides_are_not_echoed_in_full(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe.load(None, [override])
    assert len(str(caught.value)) < 500


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text("[model]\ncycles = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="deep.toml"):
        recipe.load(file)
