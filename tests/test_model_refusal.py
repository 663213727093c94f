"""The reader of models in C++ refuses what `wavenet.checkpoint.read_model` refuses, in one line."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import CONFIGURATION, TINY, WHOLE, assert_agreement, file_of, native_refusal

from wavenet.config import ModelConfig
from wavenet.data.tensor_file import encode

VALUES = (
    *(
        "null",
        "true",
        "0",
        "1",
        "2",
        "3",
        "7",
        "24",
        "64",
        "65",
        "256",
        "257",
        "1024",
        "4096",
        "4097",
        "65536",
        "65537",
    ),
    *("-1", "-0", "1.0", "2.0", "0.5", "-0.5", "1e0", "0.0", "-0.0", "1e-40", "1e400", "NaN", "Infinity", "-Infinity"),
    *("2147483648", "18446744073709551616", "1" + "0" * 400, "1" * 4_301, "999999999999999999999999999999", "0.1", "4"),
    *('""', '"x"', '"mulaw"', '"logistic"', '"parallel"', '"causal"', '"htk"', '"\\ud800"', "[]", "{}", "[1]", '["a"]'),
    *("[0, 1]", "[1, 0]", "[0.5, 0.5]", "[0.5, 0.5, 0.5]", "[true, 1]", "[0, NaN]", "[0, 11]", "[-20000, 0]", "[[]]"),
    *('["a", "a"]', '["a", ""]', '["a", 1]', '["\\ud800", "b"]', '["\\ud83d\\ude00", "\\u0000"]', '{"x": 1}', "16000"),
    *("1000", "999", "384000", "384001", "8000", "8000.5", "7999", "1e300", "1.7976931348623157e308"),
)


def field_paths() -> list[tuple[str, ...]]:
    """Every field of a configuration, those of its tables included."""
    paths: list[tuple[str, ...]] = []
    for name, value in WHOLE.to_dict().items():
        paths += [(name,), *((name, inner) for inner in value)] if isinstance(value, dict) else [(name,)]
    return paths


def with_text(config: dict[str, Any], path: tuple[str, ...], text: str) -> str:
    """The JSON of a configuration with the value of one field as it is written here."""
    changed = json.loads(json.dumps(config))
    table = changed
    for name in path[:-1]:
        table = table[name]
    table[path[-1]] = "@"
    return json.dumps(changed).replace('"@"', text)


@pytest.mark.parametrize("path", field_paths(), ids=".".join)
def test_every_field_is_checked_as_in_python(path: tuple[str, ...], tmp_path: Path) -> None:
    accepted = 0
    for text in VALUES:
        reason = assert_agreement(file_of(with_text(WHOLE.to_dict(), path, text)), tmp_path, (path, text))
        accepted += CONFIGURATION not in str(reason)
    assert 0 < accepted < len(VALUES) or path[-1] in ("training_range", "frame_model", "features", "speakers")


CONFIGS = [  # fields that contradict each other, and JSON at its limits
    *(
        '{"pitch_taps": 3}',
        '{"output": "mulaw", "linear_prediction": 1}',
        '{"output": "gaussian", "linear_prediction": 64}',
    ),
    *('{"sampling": {"top_k": 5}}', '{"output": "gaussian", "sampling": {"top_k": 5}}', '{"sampling": {"top_k": 1e1}}'),
    *('{"sampling": {"refine": 1}}', '{"sampling": {"particles": 0}}', '{"sampling": {"voiced_temperature": 1}}'),
    *(
        '{"features": {}, "sampling": {"refine": 1}}',
        '{"features": {"window": 200, "hop": 101}, "sampling": {"refine": 1}}',
        *(f'{{"features": {{"hop": {hop}}}, "sampling": {{"refine": {n}}}}}' for hop in (1, 5, 7) for n in (80, 1000)),
    ),
    *('{"features": {"rate": 16000}}', '{"features": {"rate": 8000}}', '{"rate": 16000}', '{"features": {"fft": 512}}'),
    *('{"sample_rate": 1000, "features": {}}', '{"sample_rate": 8000, "features": {"high": 4000.5}}'),
    *('{"features": {"low": 7999.5}}', '{"features": {"low": 7999}}', '{"features": {"high": 0.5}}'),
    *('{"frame_model": {}}', '{"features": {}, "frame_model": {}}', '{"features": {"bands": 40}, "frame_model": {}}'),
    *('{"sampling": {"frame_temperature": 1.0}}', '{"sampling": {"frame_temperature": 0.9}}', '{"sampling": {}}'),
    *('{"training_range": {}}', '{"training_range": {"level": [0, 1]}}', '{"training_range": {"pitch": [0, 1]}}'),
    *('{"training_range": {"level": [0, 1], "pitch": [0, 1]}}', '{"gate_channels": null, "head_channels": null}'),
    '{"training_range": {"level": [0, 1], "pitch": [0, 1], "voiced": [1]}}',
    '{"training_range": {"level": [0, 1], "pitch": [0, 1], "voiced": [1, 0]}}',
    '{"training_range": {"level": [0, 1], "pitch": [0, 1], "quietest": 3}}',
    *('{"layers_per_cycle": 24}', '{"layers_per_cycle": 22, "cycles": 1, "residual_channels": 16}'),
    *(
        '{"residual_channels": 65536, "skip_channels": 65536}',
        '{"layers_per_cycle": 21, "cycles": 1, "kernel_size": 3}',
    ),
    *("", " ", "{}", " {} ", "\t\n\r{}", "{}x", "[]", "null", "1", '"x"', "{", "{}}", "[" * 100_000, '{"a":' * 100_000),
    *(
        "{'a': 1}",
        '{"cycles": 1,}',
        '{"cycles" 1}',
        '{"cycles": 01}',
        '{"cycles": 1.}',
        '{"cycles": .5}',
        '{"cycles": +1}',
    ),
    *(
        '{"cycles": 0x1}',
        '{"cycles": 1 /**/}',
        '{"cycles": 1e}',
        '{"cycles": -}',
        '{"cycles": nul}',
        '{"cycles": truex}',
    ),
    *(
        '{"\\u0063ycles": 1}',
        '{"c\\u00zzcles": 1}',
        '{"cycles\\u0000": 1}',
        '{"cycles": "\\x"}',
        "\ufeff{}",
        "\u00a0{}",
    ),
    *('{"speakers": ["\t"]}', '{"speakers": ["\\t"]}', '{"speakers": ["\x7f"]}', '{"speakers": ["\\udc00\\ud800"]}'),
    *(
        '{"speakers": ["\\ud800"]}',
        '{"speakers": ["\\ud83d\\ude00"]}',
        '{"speakers": ["\\ud83dx"]}',
        '{"speakers": ["\\/"]}',
    ),
    *(
        '{"speakers": ["é", "e\u0301"]}',
        '{"speakers": ["\\u00e9", "é"]}',
        f'{{"{"x" * 99_999}": 1}}',
        '{"\x1b[31m": 1}',
        '{"\u2028\u202e\x85": 1}',
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda text: text[:60])
def test_configurations_are_refused_as_in_python(config: str, tmp_path: Path) -> None:
    assert_agreement(file_of(config), tmp_path)


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a file, and its values."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any] | str | bytes, values: bytes) -> bytes:
    """A file of a header, as JSON or as it is, and values."""
    text = json.dumps(header) if isinstance(header, dict) else header
    encoded = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(encoded)) + encoded + values


def entry(header: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The header with other fields of the tensor that is first in the file."""
    name = min((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    return {**header, name: {**header[name], **fields}}


HEADERS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | str | bytes]] = {
    "as it is": lambda h: h,
    "white space": lambda h: f" \n{json.dumps(h)}\r\t ",
    "more after it": lambda h: json.dumps(h) + "x",
    "zeros after it": lambda h: json.dumps(h) + "\0",
    "not unicode": lambda h: json.dumps(h).encode().replace(b'"skip.bias"', b'"skip.bia\xff"'),
    "overlong": lambda h: json.dumps(h).encode().replace(b'"skip.bias"', b'"skip.bia\xc1\xb3"'),
    "surrogate": lambda h: json.dumps(h).encode().replace(b'"skip.bias"', b'"skip.\xed\xa0\x80"'),
    "escaped name": lambda h: json.dumps(h).replace('"skip.bias"', '"skip\\u002ebias"'),
    "byte order mark": lambda h: b"\xef\xbb\xbf" + json.dumps(h).encode(),
    "not closed": lambda h: json.dumps(h)[:-1],
    "a list": lambda h: json.dumps([h]),
    "no metadata": lambda h: {name: value for name, value in h.items() if name != "__metadata__"},
    "null as metadata": lambda h: {**h, "__metadata__": None},
    "numbers in the metadata": lambda h: {**h, "__metadata__": {**h["__metadata__"], "n": 1}},
    "other metadata": lambda h: {**h, "__metadata__": {**h["__metadata__"], "n": "x"}},
    "a list as metadata": lambda h: {**h, "__metadata__": []},
    "format 2": lambda h: {**h, "__metadata__": {**h["__metadata__"], "wavenet.format": "2"}},
    "a labeller": lambda h: {**h, "__metadata__": {**h["__metadata__"], "wavenet.network": "labeller"}},
    "another network": lambda h: {**h, "__metadata__": {**h["__metadata__"], "wavenet.network": "x"}},
    "missing": lambda h: {name: value for name, value in h.items() if name != "skip.bias"},
    "extra": lambda h: {**h, "x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
    "renamed": lambda h: {name.replace("skip", "\x1b" * 200): value for name, value in h.items()},
    "other type": lambda h: entry(h, dtype="I32"),
    "unknown type": lambda h: entry(h, dtype="f32"),
    "no type": lambda h: entry(h, dtype=None),
    "other shape": lambda h: entry(h, shape=[5, 1, 1]),
    "negative shape": lambda h: entry(h, shape=[-5, -1]),
    "zero": lambda h: entry(h, shape=[0, 1]),
    "overflow": lambda h: entry(h, shape=[2**63, 2]),
    "beyond 64 bits": lambda h: entry(h, shape=[2**64 + 5, 1]),
    "fractions": lambda h: entry(h, shape=[5.0, 1]),
    "many dimensions": lambda h: entry(h, shape=[1] * 1_000),
    "text as shape": lambda h: entry(h, shape="5"),
    "one offset": lambda h: entry(h, data_offsets=[0]),
    "three offsets": lambda h: entry(h, data_offsets=[0, 4, 8]),
    "overlap": lambda h: entry(h, data_offsets=[4, 12]),
    "gap": lambda h: entry(h, data_offsets=[1, 9]),
    "backwards": lambda h: entry(h, data_offsets=[8, 0]),
    "negative offset": lambda h: entry(h, data_offsets=[-8, 0]),
    "negative zero": lambda h: json.dumps(h).replace("[0, ", "[-0, "),
    "far away": lambda h: entry(h, data_offsets=[2**64 - 8, 2**64]),
    "another order": lambda h: dict(reversed(h.items())),
    "infinite": lambda h: json.dumps(h).replace("[0, ", "[1e999, "),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_are_refused_as_in_python(case: str, tmp_path: Path) -> None:
    header, values = parts(file_of(ModelConfig(**TINY)))
    reason = assert_agreement(joined(HEADERS[case](header), values), tmp_path)
    accepted = ("as it is", "white space", "escaped name", "other metadata", "another network", "another order")
    assert (reason is None) == (case in accepted)


def test_names_that_appear_twice_and_unknown_fields_are_refused_unlike_in_python() -> None:
    header, values = parts(file_of(ModelConfig(**TINY)))
    twice = json.dumps(header).replace("{", '{"skip.bias": ' + json.dumps(header["skip.bias"]) + ", ", 1)
    assert "twice" in str(native_refusal(joined(twice, values)))
    assert "unknown field" in str(native_refusal(joined(entry(header, x=1), values)))
    assert "twice" in str(native_refusal(file_of('{"cycles": 1, "cycles": 1}')))
    assert "two names" in str(native_refusal(file_of('{"features": {"rate": 16000, "sample_rate": 16000}}')))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_weights_that_are_not_finite_are_named(value: float, dtype: str, tmp_path: Path) -> None:
    config = ModelConfig(**TINY)
    tensors = {name: np.zeros(shape, dtype) for name, shape in config.shapes.items()}
    tensors["skip.weight"][0, 1] = value
    content = encode(tensors, {"wavenet.format": "1", "wavenet.config": json.dumps(config.to_dict())})
    assert "'skip.weight' contains NaN or infinity" in str(assert_agreement(content, tmp_path))


def test_every_shortened_lengthened_or_damaged_file_is_treated_as_in_python(tmp_path: Path) -> None:
    whole = file_of(WHOLE)
    for length in [*range(64), *range(64, len(whole), 211)]:
        assert assert_agreement(whole[:length], tmp_path, length) is not None
    for length in (
        0,
        1,
        len(whole) - 9,
        len(whole) - 8,
        len(whole),
        99_999_999,
        100_000_001,
        2**62,
        2**64 - 8,
        2**64 - 1,
    ):
        assert_agreement(struct.pack("<Q", length) + whole[8:], tmp_path, length)
    assert_agreement(whole + b"\0", tmp_path)
    choose = random.Random(0)
    (length,) = struct.unpack("<Q", whole[:8])
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(choose.randint(1, 3)):
            damaged[8 + choose.randrange(length)] = choose.choice(b'"\\{}[]:,0123456789.-eaxu \n\0\xff')
        if "unknown field" not in str(native_refusal(bytes(damaged))):
            assert_agreement(bytes(damaged), tmp_path, bytes(damaged), same_part=False)
