"""Every architecture against transformers, in every way a model is called. The rows: parity_rows/."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import (
    TOLERANCE,
    assert_close,
    check,
    check_long_text,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
)
from parity_case import Case
from parity_cases import CASES, ROWS
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load
from tinystar_np.models import ARCHITECTURES, model_class

pytestmark = pytest.mark.usefixtures("one_blas_thread")

VARIANTS = [
    pytest.param(case, name, id=f"{case.model_type}-{name}") for case in CASES for name in case.all_variants
]
EACH = [pytest.param(case, id=case.model_type) for case in CASES]
WITH_EXPERTS = [
    pytest.param(case, id=case.model_type)
    for case in CASES
    if {"num_experts_per_tok", "ffn_config", "moe_k", "moe_topk"} & case.smallest.keys()
]
IN_THE_FILE_ONLY = ("layer_types", "no_rope_layers", "attention_layers")
"""What transformers works out and writes into config.json, where old files have the keys it follows from."""


def make(case: Case, variant: str = "plain") -> PreTrainedModel:
    return reference_model(case.model_type, **copy.deepcopy(case.config(variant)))


def trained_length(reference: PreTrainedModel) -> int | None:
    """How long the texts were that it learned from, as its config says; BLOOM's class has lost the key."""
    names = ("max_position_embeddings", "max_seq_len", "model_max_length")
    said = [getattr(reference.config, name, None) for name in names]
    found = [length for length in said if length is not None]
    return found[0] if found else {"bloom": 2048}.get(reference.config.model_type)


def save(reference: PreTrainedModel, given: dict[str, Any], directory: Path) -> Path:
    """Save as transformers does, which leaves out what is null by its default; what was given is there."""
    reference.save_pretrained(directory)
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    raw |= {key: None for key, value in given.items() if value is None}
    path.write_text(json.dumps(raw))
    return directory


def make_old(case: Case, reference: PreTrainedModel, given: dict[str, Any], directory: Path) -> None:
    """Rewrite a directory as old files of the hub are: keys, names of tensors, and what stands beside."""
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    said = {key: value for key, value in given.items() if key != "rope_parameters"}
    changes = {**dict.fromkeys(IN_THE_FILE_ONLY), **old_spelling(raw)}
    raw = {key: value for key, value in (raw | changes).items() if value is not None} | said
    raw = {key: value for key, value in (raw | case.old).items() if case.old.get(key, key) is not None}
    path.write_text(json.dumps({case.renamed.get(key, key): value for key, value in raw.items()}))

    tensors = load_file(directory / "model.safetensors")
    for i in range(2):
        tensors |= {name.format(i=i): torch.ones(3) for name in case.buffers}
    if reference.config.tie_word_embeddings:  # the table is there twice
        modules = reference.named_modules()
        head = next(name for name, each in modules if each is reference.get_output_embeddings())
        tensors[f"{head}.weight"] = reference.get_input_embeddings().weight.detach().clone()
    prefix = f"{reference.base_model_prefix}."
    save_file({n.removeprefix(prefix): t for n, t in tensors.items()}, directory / "model.safetensors")


@pytest.mark.parametrize(("case", "variant"), VARIANTS)
def test_variant(case: Case, variant: str, tmp_path: Path) -> None:
    """As transformers saves it, in all that ``check`` calls it for; and as old files of the hub are."""
    given = case.config(variant)
    reference = make(case, variant)
    tolerance = case.tolerance.get(variant, TOLERANCE)
    model = check(reference, save(reference, given, tmp_path), tolerance=tolerance)
    trained = trained_length(reference)
    assert model.trained_length == trained
    assert model.context_length == (trained if case.learned_positions else None)

    if variant in case.of_today:
        return
    make_old(case, reference, given, tmp_path)
    ids = random_ids(2, 60)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids), tolerance, "spelled as in old files")


@pytest.mark.parametrize("case", EACH)
def test_generate(case: Case, tmp_path: Path) -> None:
    """The ids of transformers' own generate, without its cache: some of its architectures have none."""
    reference = make(case)
    model, _ = load(save(reference, {}, tmp_path))
    prompt, ids = random_ids(30), []
    expected = reference.generate(
        torch.from_numpy(prompt[None]), max_new_tokens=20, do_sample=False, eos_token_id=None, use_cache=False
    )[0, 30:].tolist()
    cache = model.new_cache()
    while len(ids) < len(expected):
        ids.append(int(model(ids[-1:] or prompt, cache=cache, last_only=True).argmax()))
    assert ids == expected


@pytest.mark.parametrize("case", EACH)
def test_narrow_types(case: Case, tmp_path: Path) -> None:
    """Files in bfloat16 are computed with as they are; rounded to 8 bits, pieces are still the whole."""
    reference, ids = make(case), random_ids(2, 50)
    ours, learned = model_class(case.model_type), dict(reference.named_parameters())
    for name, tensor in reference.state_dict().items():
        # A router's correction is among them, and no parameter; others are numbers that are computed here.
        if name in learned or not re.fullmatch(ours.IGNORED, name.removeprefix(ours.PREFIX)):
            tensor.copy_(tensor.bfloat16())
    expected = logits_of(reference, ids)
    save(reference.bfloat16(), {}, tmp_path)
    for dtype, kind in (("auto", Bfloat16Matrix), ("int8", Int8Matrix)):
        model, _ = load(tmp_path, dtype=dtype)
        assert kind in {type(array) for array in model.weights.values()}
        if dtype == "auto":
            assert_close(model(ids), expected)
        whole, cache = model(ids), model.new_cache(batch_size=2)
        assert_close(model(ids[:, :30], cache=cache), whole[:, :30])
        assert_close(model(ids[:, 30:], cache=cache), whole[:, 30:])


@pytest.mark.parametrize("case", WITH_EXPERTS)
def test_experts_in_one_tensor_or_apart(case: Case, tmp_path: Path) -> None:
    """As transformers 5 has them in memory, or a tensor for each as files of before: the same arrays."""
    reference = make(case)
    found = []
    for original in (True, False):
        reference.save_pretrained(tmp_path / str(original), save_original_format=original)
        model, _ = load(tmp_path / str(original))
        ids = random_ids(2, 20)
        assert_close(model(ids), logits_of(reference, ids))
        found.append(model.weights)
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        assert (array == found[1][name]).all(), name


@pytest.mark.parametrize("case", [each for each in EACH if each.id != "dbrx"])  # see test_dbrx.py
def test_a_file_that_says_no_more_than_it_must(case: Case, tmp_path: Path) -> None:
    """What is missing is as in transformers' class."""
    left_out = {"rope_parameters", "max_position_embeddings", "max_seq_len", "n_positions"} - {*case.must_say}
    shapes = {key: value for key, value in case.smallest.items() if key not in left_out}
    reference = reference_model(case.model_type, **copy.deepcopy(shapes))
    reference.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": case.model_type, **shapes}))
    model, _ = load(tmp_path)
    ids = random_ids(2, 40)
    assert_close(model(ids), logits_of(reference, ids))
    assert model.trained_length == trained_length(reference)


LONG = [  # long enough for the blockwise form, or for several chunks
    pytest.param(case, changes, length, id=f"{case.model_type}-{length}")
    for case in CASES
    for changes, length in case.long
]


@pytest.mark.parametrize(("case", "changes", "length"), LONG)
def test_long_texts(case: Case, changes: dict[str, Any], length: int, tmp_path: Path) -> None:
    reference = reference_model(case.model_type, **{**case.smallest, **changes})
    check_long_text(reference, tmp_path, length)


def test_every_architecture_has_a_row() -> None:
    assert set(ROWS) == set(ARCHITECTURES) - {"tinystar"}
