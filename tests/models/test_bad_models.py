"""Configs that no model can have: refused by every architecture, with the key named, before all else."""

import json
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
from bad_files import CONFIG, Row, assert_refused, config, file_bytes, write_good
from switches import other_names

from tinystar_np.errors import CheckpointError, ConfigError, InputError, TinyStarError
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.loading import load
from tinystar_np.models import ARCHITECTURES, model_class
from tinystar_np.models.blt_parts import StackConfig
from tinystar_np.models.config import MOST_EXPERTS, MOST_LAYERS
from tinystar_np.models.dbrx import KEYS_OF_PARTS

pytestmark = pytest.mark.usefixtures("one_blas_thread")

NAN, INFINITE = float("nan"), float("inf")
WIDTHS = "hidden_size", "n_embd", "d_model"
HEADS = "num_attention_heads", "attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"
LAYERS = "num_hidden_layers", "n_layer", "n_layers", "num_layers"
EPS = "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"

ABSURD: dict[str, tuple[tuple[str, ...], Any, str]] = {  # what is changed, to what, what is said
    "a billion layers": (LAYERS, 10**9, "{} = 1000000000, but it must be at least 1 and at most 1000"),
    "no layers": (LAYERS, 0, "{} = 0, but it must be at least 1"),
    "negative layers": (LAYERS, -1, "{} = -1, but it must be at least 1"),
    "a number of layers beyond 64 bits": (LAYERS, 10**30, "{} = 1000+, but no number beyond"),
    "a negative width": (WIDTHS, -64, "{} = -64"),
    "no width": (WIDTHS, 0, "{} = 0"),
    "a fractional width": (WIDTHS, 64.0, "{} = 64.0, but it must be int"),
    "a width of 4000 digits": (WIDTHS, 10**4000, r"{} = 1000+\.\.\.0+, but no number beyond"),
    "a width in words": (WIDTHS, "wide", "{} = 'wide', but it must be int"),
    "a width of many": (WIDTHS, [64] * 9, r"{} = \[64, 64, .*\.\.\.\], but it must be int"),
    "no heads": (HEADS, 0, "{} = 0"),
    "negative heads": (HEADS, -4, "{} = -4"),
    "true heads": (HEADS, True, "{} = True, but it must be int"),
    "eps NaN": (EPS, NAN, "{} = nan, but it must be float( or null)?, finite"),
    "eps infinite": (EPS, INFINITE, "{} = inf, but it must be float( or null)?, finite"),
    "eps beyond float32": (EPS, 1e39, r"{} = 1e\+39, but it must be float( or null)?, finite"),
    "eps below float32": (EPS, 1e-40, r"{} = 1e-40, but it must be float( or null)?, .* at least 1\.2e-38"),
    "eps negative": (EPS, -1e-5, "{} = -1e-05,? (but it )?must be above 0"),
}  # fmt: skip
WITHOUT = {
    "eps": ("dbrx",),  # what torch's layer norm has
    # of attention, which no layer has unless the file says
    "heads": ("bamba", "falcon_mamba", "granitemoehybrid", "mamba", "rwkv"),
}

INSIDE = {"blt": ("decoder_config", StackConfig)}
"""Where the sizes are, of models that have them in an object."""


def keys_of(model_type: str) -> dict[str, Any]:
    """The keys of an architecture's config, and the type of each."""
    cls = model_class(model_type).Config
    hints = get_type_hints(cls)
    own = {key: hints[key] for key in sorted({*cls.keys()} - {*cls.REFUSED})}
    own |= {alias: hints[name] for alias, name in other_names(cls).items() if name in own}
    elsewhere = KEYS_OF_PARTS if model_type == "dbrx" else ()
    return {key: hint for key, hint in own.items() if key not in elsewhere}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_what_no_model_is(model_type: str, tmp_path: Path, capsys: Any) -> None:
    cls = model_class(model_type).Config
    part, its_class = INSIDE.get(model_type, ("", cls))
    keys = its_class.keys()
    write_good(tmp_path)
    for name, (spellings, value, message) in ABSURD.items():
        key = next((spelling for spelling in spellings if spelling in keys), None)
        if model_type in WITHOUT.get(name.split()[0], ()) or model_type in WITHOUT.get(name.split()[-1], ()):
            continue
        if key is None:
            assert spellings == EPS, f"{model_type}: nothing to make {name} of"
            continue
        said = {part: {key: value}} if part else {key: value}
        row = Row(
            lambda d, found={"model_type": model_type, **said}: (d / "config.json").write_text(
                json.dumps(found)
            ),
            ConfigError,
            rf"config\.json: (.*\b)?{message.format(key)}",
        )
        assert_refused(row, tmp_path, capsys)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_key_refuses_what_it_cannot_be(model_type: str) -> None:
    """Wrong types and numbers that are none, in every key; and beside that, nothing but our error."""
    cls = model_class(model_type).Config
    silent = {name for name, held in cls.keys().items() if held.null_is_silence}
    base = {"use_sliding_window": True} if "use_sliding_window" in keys_of(model_type) else {}
    for key, hint in keys_of(model_type).items():
        kinds = {getattr(kind, "__origin__", kind) for kind in (get_args(hint) or (hint,))}
        kinds = {hint.__origin__} if getattr(hint, "__origin__", None) in (list, dict) else kinds
        wrong = [[[]], [None], {"a": [{}]}, b"bytes"]
        wrong = [value for value in wrong if type(value) not in kinds]
        wrong += ["word"] if str not in kinds else []
        wrong += [True] if bool not in kinds else [2] if int not in kinds else []
        wrong += [2.5] if float not in kinds else [NAN, INFINITE, -INFINITE, 1e39, 10**400]
        wrong += [10**30, -(10**30)] if int in kinds else []
        wrong += [None] if NoneType not in kinds and other_names(cls).get(key, key) not in silent else []
        for value in wrong:
            with pytest.raises(ConfigError) as caught:
                cls.from_dict({**base, key: value})
            assert key in str(caught.value), (key, value)
        for value in (
            0,
            -1,
            3,
            10**5,
            2**53,
            1e38,
            -1e38,
            [],
            [0],
            ["x"],
            {},
            {"rope_type": []},
            {"type": "yarn"},
        ):
            try:
                found = cls.from_dict({**base, key: value})
            except TinyStarError:
                pass
            else:
                assert min(found.sizes.values()) >= 1
                assert found.sizes["L"] * found.sizes.get("E", 1) <= MOST_EXPERTS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_local_experts": 10**9}, "32 layers of 1000000000 experts"),
        ({"num_local_experts": 4000}, "num_local_experts = 4000 makes 32 layers of 4000 experts, more"),
        ({"num_hidden_layers": MOST_LAYERS, "num_local_experts": 101}, "1000 layers of 101 experts"),
    ],
)
def test_experts_without_number(changes: dict[str, int], words: str, tmp_path: Path, capsys: Any) -> None:
    row = Row(
        lambda d: (d / "config.json").write_text(json.dumps({"model_type": "mixtral", **changes})),
        ConfigError,
        words,
    )
    assert_refused(row, write_good(tmp_path), capsys)
    with pytest.raises(ConfigError, match=words):
        hollow_model({"model_type": "mixtral", **changes})


@pytest.mark.parametrize("model_type", ["granitemoe", "mixtral", "qwen3_next", "llama"])
def test_names_are_not_written_out_for_a_file_that_lacks_them(
    model_type: str, tmp_path: Path, capsys: Any
) -> None:
    """As large as a config may be, and a file that holds next to nothing."""
    keys = keys_of(model_type)
    large = {key: 40 for key in ("num_local_experts", "num_experts") if key in keys}
    large["num_hidden_layers"] = 80 if large else MOST_LAYERS

    def spoil(directory: Path) -> None:
        (directory / "config.json").write_text(json.dumps({"model_type": model_type, **large}))
        (directory / "model.safetensors").write_bytes(file_bytes({}))

    assert_refused(Row(spoil, CheckpointError, "it lacks .* more tensors"), write_good(tmp_path), capsys)


GPT2 = {
    "a fractional layer": (config(n_layer=1.5), "n_layer = 1.5, but it must be int"),
    "heads that do not divide": (config(n_head=5), "n_embd = 8 cannot be divided among n_head = 5"),
    "more heads than numbers": (config(n_head=9), "n_embd = 8 cannot be divided among n_head = 9"),
    "a vocabulary beyond 2**53": (
        config(vocab_size=2**62),
        "vocab_size = 4611686018427387904, but no number",
    ),
    "a word of 40 kB": (
        config(n_inner="wide" * 10_000),
        r"n_inner = 'wide.*\.\.\..*', but it must be int or null",
    ),
    "eps as transformers 5 writes it": (
        config(layer_norm_epsilon={"__float__": "Infinity"}),
        "epsilon = inf, but",
    ),
    "a flag in words": (config(scale_attn_weights="yes"), "scale_attn_weights = 'yes', but it must be bool"),
    "an unknown activation": (
        config(activation_function="prelu"),
        "'prelu' is not known here. Known: .*gelu_new",
    ),
    "what is not implemented": (
        config(add_cross_attention=True),
        "add_cross_attention = True is not implemented",
    ),
    "quantised": (
        config(quantization_config={"bits": 4, "modules": ["x"] * 10_000}),
        r"quantization_config = \{'bits': 4, .*\.\.\..*\} is not implemented",
    ),
    "weights in another file": (
        config(transformers_weights="other.safetensors"),
        "transformers_weights = 'other.safetensors' is not implemented",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), GPT2.values(), ids=GPT2.keys())
def test_gpt2(spoil: Any, message: str, tmp_path: Path, capsys: Any) -> None:
    assert_refused(Row(spoil, ConfigError, message), write_good(tmp_path), capsys)


def test_another_spelling_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"n_head = 5.* In this file n_embd is hidden_size\.$"):
        model_class("gpt2").Config.from_dict({"hidden_size": 48, "n_head": 5})


def test_newer_spellings_of_the_sizes_are_read(tmp_path: Path) -> None:
    names = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
    directory = write_good(tmp_path)
    raw = {names.get(key, key): value for key, value in CONFIG.items()}
    (directory / "config.json").write_text(json.dumps(raw))
    assert load(directory)[0].config.n_embd == 8


def test_dtype(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype = 'float8'"):
        load(write_good(tmp_path), dtype="float8")
