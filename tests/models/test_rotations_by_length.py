"""Rotations that depend on the length of a text: with a cache the same as without, at every border.

The reference is transformers without a cache, for the text of each length anew.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qwen1_reference  # noqa: F401 — registers what transformers has not
from parity import assert_close, interrupt, logits_of, old_spelling, random_ids, reference_model, save
from safetensors import safe_open

import tinystar_np as ts
from tinystar_np.cache import Cache, join_caches
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.errors import CheckpointError
from tinystar_np.generation import Conversation, loop, scheduler
from tinystar_np.loading import load
from tinystar_np.models import caches
from tinystar_np.tap import listen
from tinystar_np.whole_file import whole_file

pytestmark = pytest.mark.usefixtures("one_blas_thread")

LIMIT, LONGEST = 20, 32
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8 * LIMIT,
}


def longrope(pairs: int = 4, trained: int = LIMIT, **more: Any) -> dict[str, Any]:
    factors = {
        "short_factor": [1 + 0.1 * j for j in range(pairs)],
        "long_factor": [1.0 + 3 * j for j in range(pairs)],
    }
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": trained,
        **factors,
        **more,
    }


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}
PHI3 = {**SMALL, "rope_parameters": longrope(), "original_max_position_embeddings": LIMIT}
LLAMA = {**SMALL, "rope_parameters": DYNAMIC, "max_position_embeddings": LIMIT}
HYBRID = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 1}
KINDS = {"full_attention": longrope(), "sliding_attention": longrope(trained=LIMIT + 4)}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3": ("phi3", PHI3),
    "phi3, part of each head": (
        "phi3",
        {**PHI3, "rope_parameters": longrope(3, partial_rotary_factor=0.75)},
    ),
    "phi3, window": ("phi3", {**PHI3, "sliding_window": 7}),
    "llama, dynamic": ("llama", LLAMA),
    "mistral, dynamic, window": ("mistral", {**LLAMA, "sliding_window": 6}),
    "gpt_neox, dynamic, part": (
        "gpt_neox",
        {**LLAMA, "rope_parameters": {**DYNAMIC, "partial_rotary_factor": 0.5}},
    ),
    "deepseek_v3, longrope, latents": (
        "deepseek_v3",
        {**SMALL, "num_key_value_heads": 4, "first_k_dense_replace": 3, "q_lora_rank": 10, "kv_lora_rank": 12}
        | {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 6, "rope_parameters": longrope()},
    ),
    "gemma3, two borders": (
        "gemma3_text",
        {**SMALL, "head_dim": 8, "sliding_window": 5, "sliding_window_pattern": 2, "rope_parameters": KINDS},
    ),
    "llama4, dynamic, chunks": (
        "llama4_text",
        {**LLAMA, "head_dim": 8, "no_rope_layer_interval": 2, "attention_chunk_size": 9, "floor_scale": 3}
        | {"intermediate_size_mlp": 24, "num_local_experts": 2},
    ),
    "qwen3_next, longrope, part": (
        "qwen3_next",
        {**SMALL, "head_dim": 8, "full_attention_interval": 2, "num_experts": 2, "num_experts_per_tok": 1}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
        | {"linear_num_value_heads": 4, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 12}
        # A wide epsilon: the usual one magnifies rounding after the delta rule (parity_rows/qwen3_next.py).
        | {"rope_parameters": longrope(2, partial_rotary_factor=0.5), "rms_norm_eps": 0.1},
    ),
    "qwen, doublings": (
        "qwen",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
        | {"kv_channels": 8, "seq_length": LIMIT // 2, "max_position_embeddings": 8 * LIMIT},
    ),
    "qwen, a border": (
        "qwen",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
        | {"kv_channels": 8, "rotary_pct": 0.5, "seq_length": LIMIT, "use_logn_attn": False}
        | {"max_position_embeddings": 8 * LIMIT},
    ),
    "falcon_h1, dynamic": ("falcon_h1", {**LLAMA, **HYBRID}),
    "granitemoehybrid, longrope": (
        "granitemoehybrid",
        {**SMALL, "layer_types": ["mamba", "attention", "attention"], "position_embedding_type": "rope"}
        | {"mamba_n_heads": 4, "mamba_d_state": 4, "shared_intermediate_size": 20, "num_local_experts": 0}
        | {"num_experts_per_tok": 0, "rope_parameters": longrope()},
    ),
}
IDS = random_ids(LONGEST + 1)


class Known:
    """A model of ours, and what transformers says of the first n tokens, whatever n is."""

    def __init__(self, model_type: str, config: dict[str, Any], directory: Path):
        reference = reference_model(model_type, **config)
        self.model: Any = load(save(reference, directory), dtype="float32")[0]
        self.model.end_ids = ()
        # From short to long: transformers keeps the frequencies of the longest text that it has seen.
        self.expected = {n: logits_of(reference, IDS[:n])[0] for n in range(1, len(IDS) + 1)}

    def check(self, found: np.ndarray, end: int, what: str) -> None:
        """What a call says of the last of the first ``end`` tokens."""
        assert_close(found, self.expected[end][end - len(found) : end], what=what)

    def held(self, length: int) -> Cache:
        """A cache that holds so many tokens."""
        cache: Cache = self.model.new_cache()
        self.model(IDS[:length], cache=cache, last_only=True)
        return cache

    def goes_on(self, cache: Cache, what: str, end: int = LONGEST) -> None:
        """The cache says what the text says, token by token from its length on."""
        for at in range(int(cache.lengths[0]), end):
            self.check(self.model(IDS[at : at + 1], cache=cache), at + 1, f"{what}, at {at + 1}")

    def greedy(self, prompt: list[int], new: int) -> list[int]:
        """The text without a cache."""
        ids = list(prompt)
        for _ in range(new):
            ids.append(int(self.model(ids, last_only=True).argmax()))
        return ids[len(prompt) :]


@pytest.fixture(scope="module", params=MODELS)
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(*MODELS[request.param], tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _pieces_smaller_than_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PREFILL", 6)
    monkeypatch.setattr(scheduler, "PREFILL", 6)
    monkeypatch.setattr(caches, "PREFILL", 7)


def test_without_a_cache(known: Known) -> None:
    for length in (1, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 4, LIMIT + 5, LONGEST):
        known.check(known.model(IDS[:length]), length, f"{length} tokens")
    assert np.abs(known.expected[LONGEST][:LIMIT] - known.expected[LIMIT]).max() > 1e-2  # lengths do matter


def test_one_token_at_a_time(known: Known) -> None:
    known.goes_on(known.model.new_cache(), "one token at a time")


@pytest.mark.parametrize(
    "pieces",
    [
        [LIMIT - 1, 1, 1, 3],
        [LIMIT, 1, 2],
        [LIMIT + 1, 1, 4],
        [3, LIMIT - 1, 1, 5],
        [LIMIT, 12],
        [LIMIT - 1, 2, 9],
    ],
    ids=str,
)
def test_in_pieces(known: Known, pieces: list[int]) -> None:
    cache = known.model.new_cache()
    for start, end in pairwise(np.cumsum([0, *pieces]).tolist()):
        known.check(known.model(IDS[start:end], cache=cache), end, f"{start} to {end}")


@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1, LONGEST])
def test_a_prompt_in_pieces_is_read_once(known: Known, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, embed = [], known.model.embed

    def counting(ids: np.ndarray, span: Any) -> np.ndarray:
        read.append(ids.size)
        return embed(ids, span)

    monkeypatch.setattr(known.model, "embed", counting)
    cache = known.model.new_cache()
    known.check(loop.prefill(known.model, IDS[:length].tolist(), cache), length, "a prompt in pieces")
    assert sum(read) == length
    assert max(read) <= 6
    known.goes_on(cache, "after the prompt")


def test_rows_that_cross_at_different_times(known: Known) -> None:
    lengths = [LIMIT - 3, 2, LIMIT, LIMIT + 2, LIMIT - 1]
    cache = join_caches([known.held(length) for length in lengths])
    for step in range(5):
        together = known.model([[IDS[length + step]] for length in lengths], cache=cache)
        for row, length in enumerate(lengths):
            known.check(together[row], length + step + 1, f"row {row}, step {step}")
    cache = cache.select([2, 0, 2])
    together = known.model([IDS[lengths[b] + 5 : lengths[b] + 8] for b in (2, 0, 2)], cache=cache)
    for row, b in enumerate((2, 0, 2)):
        known.check(together[row], lengths[b] + 8, f"chosen row {row}")


@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1])
def test_copied_and_saved(known: Known, length: int, tmp_path: Path) -> None:
    cache = join_caches([known.held(length), known.held(3)])
    cache.save(tmp_path / "text.cache")
    for what, other in (
        ("copied", cache.copy()),
        ("loaded", known.model.load_cache(tmp_path / "text.cache")),
    ):
        assert other.lengths.tolist() == [length, 3]
        known.goes_on(other.select([0]), what)
        for step in range(3):
            found = known.model([[IDS[length + step]], [IDS[3 + step]]], cache=other)
            known.check(found[0], length + step + 1, what)
            known.check(found[1], 3 + step + 1, what)
    known.goes_on(cache.select([0]), "the copied one")


@pytest.mark.parametrize("length", [0, 1, LIMIT - 2, LIMIT - 1, LIMIT, LIMIT + 1])
def test_truncated(known: Known, length: int) -> None:
    cache = known.held(LIMIT + 6)
    if not cache.rewindable:
        pytest.skip("it cannot be cut")
    cache.truncate(length)
    known.check(known.model(IDS[length : length + 1], cache=cache), length + 1, "truncated")
    known.goes_on(cache, "after truncation", end=LIMIT + 3)
    cache.lengths = np.array([length])
    known.goes_on(cache, "set back", end=length + 2)


@pytest.mark.parametrize("call", [0, 1, 3])
def test_an_interrupted_call_leaves_the_cache_as_it_was(
    known: Known, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while earlier tokens are read again, in pieces of 7, or thereafter in the new ones."""
    cache, calls, norm = known.held(LIMIT), [], known.model.final_norm
    before = cache.copy()

    def interrupted(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        return interrupt(x) if len(calls) == call + 1 else norm(x)

    with monkeypatch.context() as patch:
        patch.setattr(known.model, "final_norm", interrupted)
        with pytest.raises(KeyboardInterrupt):
            known.model(IDS[LIMIT : LIMIT + 5], cache=cache)
    assert cache.lengths.tolist() == [LIMIT]
    for ours, theirs in zip(cache.states, before.states, strict=True):
        for name, array in ours.arrays(LIMIT).items():
            np.testing.assert_array_equal(array, theirs.arrays(LIMIT)[name])
    known.goes_on(cache, "after the interruption")


def test_a_prompt_that_was_interrupted(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first pieces were read as parts of a long text that did not come."""
    norm, calls = known.model.final_norm, []

    def interrupted(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        return interrupt(x) if len(calls) == 3 else norm(x)

    cache = known.model.new_cache()
    with monkeypatch.context() as patch:
        patch.setattr(known.model, "final_norm", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.prefill(known.model, IDS.tolist(), cache)
    assert cache.lengths.tolist() == [12]
    known.goes_on(cache, "after the interruption")


def test_generated(known: Known) -> None:
    lengths, settings = [LIMIT - 3, 2, LIMIT, LIMIT + 2, LIMIT - 1], {"max_new_tokens": 8, "temperature": 0.0}
    prompts = [IDS[:length].tolist() for length in lengths]
    expected = [known.greedy(prompt, 8) for prompt in prompts]
    assert ts.generate_ids(known.model, prompts, **settings) == expected
    for prompt, ids in zip(prompts, expected, strict=True):
        assert ts.generate_ids(known.model, prompt, **settings) == ids
        held = len(prompt) // 2
        cache = known.held(held)
        assert ts.generate_ids(known.model, prompt[held:], cache=cache, **settings) == ids
        assert cache.lengths.tolist() == [len(prompt) + 7]


def test_guesses_do_not_cross_a_border(known: Known) -> None:
    if not known.model.new_cache().rewindable:
        pytest.skip("it cannot take back a guess")
    for length in range(LIMIT - 8, LIMIT + 3):
        prompt = (IDS[:3].tolist() * LIMIT)[:length]
        settings = {"max_new_tokens": 12, "temperature": 0.0}
        expected = known.greedy(prompt, 12)
        assert ts.generate_ids(known.model, prompt, **settings, prompt_lookup_num_tokens=5) == expected


def test_taps_hear_of_the_new_tokens(known: Known) -> None:
    cache = known.held(LIMIT)
    heard: list[str] = []

    class Listener:
        def catch(self, path: str, x: np.ndarray) -> np.ndarray:
            heard.append(path)
            return x

    with listen(Listener()):
        known.model(IDS[:1])
    once, heard = heard, []
    with listen(Listener()):
        known.model(IDS[LIMIT : LIMIT + 1], cache=cache.copy())
    assert heard == once
    with ts.record("logits", "embedding", "blocks.*.residual") as caught:
        known.model(IDS[LIMIT : LIMIT + 2], cache=cache)
    assert {array.shape[1] for array in caught.values()} == {2}
    with ts.record("blocks.*.residual") as whole:
        known.model(IDS[: LIMIT + 2])
    for path, array in whole.items():
        assert_close(caught[path], array[:, LIMIT:], what=path)


WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("llama", {**LLAMA, "rope_parameters": DYNAMIC}),
    ("llama", {**SMALL, "rope_parameters": longrope(factor=4.0)}),
    ("falcon", {**LLAMA, "rope_parameters": DYNAMIC}),
]


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, 90])
@pytest.mark.parametrize(("model_type", "config"), WHOLE)
def test_both_spellings(model_type: str, config: dict[str, Any], length: int, tmp_path: Path) -> None:
    """Whole prompts on either side of the lengths at which the rules change."""
    reference = reference_model(model_type, **config)
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    ids = random_ids(2, length)
    expected = logits_of(reference, ids)
    for changes in ({}, old_spelling(raw)):
        save(reference, tmp_path, **changes)
        assert_close(load(tmp_path)[0](ids), expected)


def chatting(model: Any, tokenizer: Any) -> None:
    """Turns of a conversation, each as if the whole were read anew, until it is far beyond the border."""
    conversation, settings = Conversation(model, tokenizer), {"max_new_tokens": 9, "temperature": 0.0}
    for text in ("Hi", "and then?", "no", "yes"):
        messages = [*conversation.messages, {"role": "user", "content": text}]
        prompt = tokenizer.encode(tokenizer.chat_template.render(messages), add_special_tokens=False)
        found = [piece.token_id for piece in conversation.say(text, **settings)]
        ids = list(prompt)
        while len(ids) < len(prompt) + len(found):
            ids.append(int(model(ids, last_only=True).argmax()))
        assert found == ids[len(prompt) :]


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("limit", [15, 40, 70])
@pytest.mark.parametrize("rule", ["longrope", "dynamic"])
def test_conversations(
    rule: str, limit: int, window: int | None, tmp_path: Path, talking_model: Path
) -> None:
    rope = longrope(trained=limit) if rule == "longrope" else DYNAMIC
    config = {**LLAMA, "vocab_size": 257, "max_position_embeddings": limit, "rope_parameters": rope}
    save(reference_model("mistral", **config, sliding_window=window), tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_bytes((talking_model / "tokenizer.json").read_bytes())
    template = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }};{% endfor %}<a>"
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    chatting(*load(tmp_path / "model"))


@pytest.fixture(scope="module")
def phi3(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known("phi3", PHI3, tmp_path_factory.mktemp("phi3"))


def rewrite(path: Path, **changes: np.ndarray | None) -> None:
    """Change arrays of a saved cache, or leave them out where they are None."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()} | changes  # noqa: SIM118
        metadata = file.metadata()
    with whole_file(path) as out:
        write_arrays(out, {n: a for n, a in arrays.items() if a is not None}, metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": None, "text_lengths": None}, r"saved without its tokens, .*\). Read the prompt again."),
        ({"ids": None}, "does not fit"),
        ({"text_lengths": None}, "does not fit"),
        ({"ids": np.ones((2, 5), np.int64)}, "does not fit"),
        ({"ids": np.ones((1, 6), np.int64)}, "does not fit"),
        ({"ids": np.ones((2, 6), np.int32)}, "does not fit"),
        ({"ids": np.full((2, 6), -1)}, "outside the vocabulary, 0 to 210"),
        ({"ids": np.full((2, 6), 211)}, "outside the vocabulary"),
        ({"text_lengths": np.array([6])}, "does not fit"),
        ({"text_lengths": np.array([6.0, 4.0])}, "does not fit"),
        ({"text_lengths": np.array([6, 3])}, "does not fit"),
    ],
    ids=str,
)
def test_files_without_their_text(
    phi3: Known, changes: dict[str, np.ndarray | None], message: str, tmp_path: Path
) -> None:
    """Such as were saved before the text was kept, and such as somebody changed."""
    path = tmp_path / "text.cache"
    join_caches([phi3.held(6), phi3.held(4)]).save(path)
    rewrite(path)
    assert phi3.model.load_cache(path).lengths.tolist() == [6, 4]
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        phi3.model.load_cache(path)


def test_other_models_keep_no_text(tmp_path: Path) -> None:
    """Their files are as they were."""
    model: Any = load(save(reference_model("llama", **SMALL), tmp_path))[0]
    cache = model.new_cache()
    model(IDS, cache=cache)
    assert cache.text is None
    assert cache.alike(50) == 50
    path = tmp_path / "text.cache"
    cache.save(path)
    with safe_open(path, framework="np") as file:
        assert sorted(file.keys()) == sorted(
            ["lengths", *(f"{i}.{n}" for i in range(3) for n in ("keys", "values"))]
        )
    assert model.load_cache(path).text is None
    rewrite(path, ids=IDS[None])
    with pytest.raises(CheckpointError, match=r"its tokens \(ids\), which this model does not keep"):
        model.load_cache(path)


def test_an_old_cache_beside_its_prompt(phi3: Known, tmp_path: Path) -> None:
    """A prompt read once, and continued across the border again and again."""
    path = tmp_path / "text.cache"
    phi3.held(LIMIT - 4).save(path)
    for length in (LIMIT - 3, LIMIT, LIMIT + 1, LONGEST):
        prompt = IDS[LIMIT - 4 : length].tolist()
        cache = phi3.model.load_cache(path)
        found = ts.generate_ids(phi3.model, prompt, cache=cache, max_new_tokens=6, temperature=0.0)
        assert found == phi3.greedy(IDS[:length].tolist(), 6)
