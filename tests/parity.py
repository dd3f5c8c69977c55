"""What every architecture must pass: small random models of transformers against ours.

``reference_model`` makes one, ``check`` holds ours against it in every way a model can be called.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import text_references  # noqa: F401 — registers what AutoModelForCausalLM lacks
import torch
from parity_case import FULL, LONG_TEXT, SLIDING, VOCABULARY
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tinystar_np.cache import join_caches
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers

OF_TODAY = ("gemma4_text", "lfm3")  # whose first files say what is rotated as transformers 5 does
TOLERANCE = 1e-5  # of the largest logit; the project promises 1e-4


def reference_model(model_type: str, seed: int = 0, **config: Any) -> PreTrainedModel:
    """Make a small model with every parameter random, in eager attention."""
    defaults = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    # transformers writes into what it is given.
    settings = AutoConfig.for_model(model_type, **deepcopy({**defaults, **config}))
    # In eager attention, transformers adds Falcon's ALiBi twice: to the scores, and once more in the mask,
    # where its default form expects it. That one is what the checkpoints were trained with.
    form = "sdpa" if getattr(settings, "alibi", False) else "eager"
    model = AutoModelForCausalLM.from_config(settings, attn_implementation=form, dtype=torch.float32)
    randomise(model, seed)
    return model.eval()


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values.

    transformers starts biases at 0 and gains at 1, under which a forgotten one changes nothing. What it
    starts at 1 stays near 1. Heads of a recurrence forget within half a token to hundreds of them: states
    then cross the chunks.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith(("A_log", "dt_bias")) and parameter.ndim == 1:
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 4 - 3)
            elif name.endswith("A_log") and parameter.ndim == 4:  # Kimi Linear's, else drawn anew each time
                parameter.copy_(torch.log(1 + 15 * torch.rand(parameter.shape, generator=generator)))
            elif name.endswith(("igate_preact.bias", "fgate_preact.bias")):  # which begin below and above 0
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 4)
                parameter.sub_(4.0 if "igate" in name else 0.0)
            elif name.endswith(("A_log", "dt_proj.bias")):  # Mamba's decay and step
                parameter.add_(0.3 * noise)
            elif parameter.ndim == 1 and torch.all(parameter == 1):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.2 * noise)  # more makes softmax so sharp that it magnifies rounding
        for name, buffer in model.named_buffers():
            # No parameters, but they change which experts run.
            if name.endswith(("e_score_correction_bias", "expert_bias")):
                buffer.copy_(0.5 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("tid2eid"):  # the experts of each token
                k, experts = buffer.shape[1], model.config.num_local_experts
                buffer.copy_(torch.rand((len(buffer), experts), generator=generator).argsort()[:, :k])
            elif name.endswith("layer_scalar"):
                drawn = 1 + 0.3 * torch.randn(buffer.shape, generator=generator)
                buffer.copy_(torch.round(64 * drawn) / 64)  # a number that bfloat16 has, too


def save(reference: PreTrainedModel, directory: Path, **changes: Any) -> Path:
    """Save a reference as transformers does, with some keys of its config.json changed; None removes one."""
    reference.save_pretrained(directory)
    edit_config(directory, **changes)
    return directory


def edit_config(directory: Path, **changes: Any) -> None:
    """Change keys of a config.json; a value of None removes the key."""
    path = directory / "config.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in changes}
    path.write_text(json.dumps(kept | {key: value for key, value in changes.items() if value is not None}))


def logits_of(reference: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    """The reference's logits (B, T, V)."""
    with torch.no_grad():
        return reference(torch.from_numpy(np.atleast_2d(ids)), use_cache=False).logits.numpy()


def name_in_file(tensors: Mapping[str, Any], name: str, weight: torch.Tensor) -> str:
    """What a file calls a weight that transformers calls ``name`` in memory; it renames some as it saves."""
    if name in tensors:
        return name
    return next(n for n, tensor in tensors.items() if np.array_equal(tensor, weight.detach().numpy()))


def random_ids(*shape: int, seed: int = 1, vocabulary: int = VOCABULARY) -> np.ndarray:
    """Token ids, 0 left out: it ends the text."""
    return np.random.default_rng(seed).integers(1, vocabulary, shape)


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE, what: str = "") -> None:
    """Within a share of the largest value, in float32, without NaN."""
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    assert error <= tolerance, f"{what}: {error:.1e} of the largest"  # false for NaN too


def check(
    reference: PreTrainedModel,
    directory: Path,
    *,
    length: int = 70,
    tolerance: float = TOLERANCE,
) -> Decoder:
    """Hold the model in ``directory`` against ``reference``; names the first activation that differs.

    length  T of the prompts, which are also cut where something begins: around the model's windows and
            chunks, and around 64, where the scans of recurrences have their own

    Returns our model, for what a test wants to ask beyond that.
    """
    model, _ = load(directory, dtype="float32")
    ids = random_ids(3, length)
    expected = logits_of(reference, ids)
    try:
        assert_close(model(ids), expected, tolerance, "whole, a batch of three")
    except AssertionError as error:
        rows = compare_with_transformers(model, ids[0].tolist(), directory)
        parted = next((row for row in rows if row.exceeds(tolerance)), None)
        raise AssertionError(f"{error}; the first to differ is {parted}") from error
    assert_close(model(ids, last_only=True), expected[:, -1:], tolerance, "last_only")
    assert_close(model(ids[0]), expected[0], tolerance, "one row")
    assert_close(model(ids[0], last_only=True), expected[0, -1:], tolerance, "one row, last_only")
    assert_close(model(ids[:, :1]), expected[:, :1], tolerance, "one token")

    borders = {b + n for b in (64, *model.config.windows) if b is not None for n in (-1, 0, 1)}
    cuts = [{b} for b in borders if 0 < b < length]
    for cut in (set(range(length)), {1, 3, length - 7, length - 6}, {20, 21, 22, 23}, *cuts):
        cache = model.new_cache(batch_size=3)
        ends = sorted({0, *cut, length})
        found = np.concatenate([model(ids[:, a:b], cache=cache) for a, b in pairwise(ends)], axis=1)
        assert_close(found, expected, tolerance, f"cut at {sorted(cut)!s:.30}")
        assert cache.lengths.tolist() == [length] * 3
    check_rows(model, ids, expected, tolerance)
    check_interruption(model, ids[0], expected[0], tolerance)
    check_greedy(reference, model, ids[0, : length // 2])
    return model


def check_long_text(reference: PreTrainedModel, directory: Path, length: int = LONG_TEXT) -> None:
    """Compare where pieces are long enough to be attended to in blocks, and to be computed in threads."""
    model, _ = load(save(reference, directory))
    ids = random_ids(2, length)
    expected = logits_of(reference, ids)
    assert_close(model(ids), expected, what="whole")
    cache = model.new_cache(batch_size=2)
    ends = [0, 1, 64, 129, 130, 300, 301, length]
    found = [model(ids[:, a:b], cache=cache) for a, b in pairwise(ends)]
    assert_close(np.concatenate(found, axis=1), expected, what="in pieces")


def check_hub_file(published: Mapping[str, Any], changes: Mapping[str, Any], directory: Path) -> None:
    """Compare where both read the same config.json, in which a key may be missing (...)."""
    raw = {key: value for key, value in {**published, **changes}.items() if value is not ...}
    settings = {key: value for key, value in raw.items() if key not in ("model_type", "architectures")}
    reference = reference_model(published["model_type"], **settings)
    save(reference, directory)
    (directory / "config.json").write_text(json.dumps(raw))
    ids = random_ids(2, 50)
    assert_close(load(directory)[0](ids), logits_of(reference, ids))


def check_rows(model: Decoder, ids: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Rows that stand at different lengths, each as if alone; the caches they come from stay as they were."""
    lengths = [5, 1, ids.shape[1] // 2]
    caches = [model.new_cache() for _ in lengths]
    for row, length, cache in zip(ids, lengths, caches, strict=True):
        model(row[:length], cache=cache, last_only=True)
    joined = join_caches(caches)
    for start, end in ((0, 1), (1, 8), (8, 9)):
        new = [slice(length + start, length + end) for length in lengths]
        together = model(np.stack([row[n] for row, n in zip(ids, new, strict=True)]), cache=joined)
        theirs = np.stack([row[n] for row, n in zip(expected, new, strict=True)])
        assert_close(together, theirs, tolerance, "rows of different lengths")
    for row, theirs, length, cache in zip(ids, expected, lengths, caches, strict=True):
        found = model(row[length : length + 1], cache=cache)
        assert_close(found, theirs[length : length + 1], tolerance, "a row that was joined with others")


def check_interruption(model: Decoder, ids: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """A call that breaks off in the last layer leaves the cache as it was."""
    cache = model.new_cache()
    model(ids[:20], cache=cache)
    norm, model.final_norm = model.final_norm, interrupt
    try:
        model(ids[-30:], cache=cache)
    except KeyboardInterrupt:
        pass
    finally:
        model.final_norm = norm
    assert cache.lengths.tolist() == [20]
    assert_close(model(ids[20:], cache=cache), expected[20:], tolerance, "after an interrupted call")


def interrupt(x: np.ndarray) -> np.ndarray:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def check_greedy(reference: PreTrainedModel, model: Decoder, prompt: np.ndarray, new: int = 30) -> None:
    """The ids that transformers would choose, too: at each place of the text that ours has chosen."""
    cache = model.new_cache()
    ids = [int(model(prompt, cache=cache, last_only=True).argmax())]
    while len(ids) < new:
        ids.append(int(model(ids[-1:], cache=cache).argmax()))
    theirs = logits_of(reference, np.array([*prompt, *ids]))[0, len(prompt) - 1 : -1].argmax(axis=-1)
    assert theirs.tolist() == ids


def old_spelling(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Changes that turn a config.json of today's library into one of the hub's old files."""
    changes: dict[str, Any] = {"dtype": None, "torch_dtype": "float32", "transformers_version": "4.31.0"}
    rope = dict(raw.get("rope_parameters") or {})
    if raw["model_type"] in OF_TODAY:
        return changes
    if SLIDING in rope and rope[SLIDING]["rope_type"] == "default":  # the other was not known
        changes["rope_local_base_freq"] = rope[SLIDING]["rope_theta"]
        rope = dict(rope[FULL])
    if "rope_theta" in rope:
        changes |= {"rope_parameters": None, "rope_theta": rope.pop("rope_theta")}
        if "partial_rotary_factor" in rope:
            changes["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        if raw["model_type"] == "qwen2_vl_text" and rope["rope_type"] == "default":
            rope["rope_type"] = "mrope"
        if rope["rope_type"] != "default" or "mrope_section" in rope:
            changes["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    return changes
