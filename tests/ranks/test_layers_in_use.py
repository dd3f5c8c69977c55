"""What is done with a model divided by its layers: texts, conversations, saved caches, kinds of files."""

import gc
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from divided_models import loaded
from random_models import random_weights
from thread_ranks import Rooms, ThreadRanks, divided

import tinystar_np
import tinystar_np as ts
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.conversion import convert
from tinystar_np.errors import CheckpointError, InputError
from tinystar_np.generation.saved_conversation import read_conversation, resume, save_conversation
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder, model_class
from tinystar_np.ranks import Part
from tinystar_np.text import load_tokenizer

PROMPT = "Once upon a time there was a little"
Both = tuple[Decoder, Decoder, Any]


@pytest.fixture(scope="module")
def stories() -> Both:
    probe, _ = ts.load("stories")
    L = len(probe.blocks)
    return loaded("stories", L // 2, L)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 0.9, "top_k": 20, "seed": 5},
        {"temperature": 0.0, "stop": ["the"]},
        {"temperature": 0.0, "prompt_lookup_num_tokens": 4},
        {"temperature": 0.0, "repetition_penalty": 1.3},
    ],
    ids=["greedy", "sampled", "stop", "lookup", "penalty"],
)
def test_texts(settings: dict[str, Any], stories: Both) -> None:
    whole, parts, tokenizer = stories
    expected = list(ts.stream(whole, tokenizer, PROMPT, max_new_tokens=40, **settings))
    found = list(ts.stream(parts, tokenizer, PROMPT, max_new_tokens=40, **settings))
    assert found == expected
    assert len(found) > 3


def test_several_prompts(stories: Both) -> None:
    whole, parts, tokenizer = stories
    prompts, settings = [PROMPT, "The dog", "One day"], {"max_new_tokens": 20, "temperature": 0.7, "seed": 1}
    assert ts.generate(parts, tokenizer, prompts, **settings) == ts.generate(
        whole, tokenizer, prompts, **settings
    )


def text_of(pieces: Any) -> str:
    return "".join(piece.text for piece in pieces)


def test_a_conversation_is_saved_and_goes_on(stories: Both, tmp_path: Path) -> None:
    whole, parts, _ = stories
    files = Path(tinystar_np.__file__).parent / "shipped" / "stories"
    for file in files.glob("*.json"):
        shutil.copy(file, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} {% endfor %}")
    tokenizer, texts = load_tokenizer(tmp_path), []
    for name, model in (("whole", whole), ("parts", parts)):
        path, settings = tmp_path / f"{name}.json", {"max_new_tokens": 20, "temperature": 0.8}
        talk = ts.Conversation(model, tokenizer)
        said = [text_of(talk.say("A dog and a cat.", seed=3, **settings))]
        save_conversation(talk, path, with_cache=True)
        said.append(text_of(talk.say("They went home.", seed=4, **settings)))
        again = ts.Conversation(model, tokenizer)
        assert resume(again, read_conversation(path), path, model) is None
        said.append(text_of(again.say("They went home.", seed=4, **settings)))
        said.append(text_of(again.answer_again(seed=5, **settings)))
        texts.append(said)
    assert texts[0] == texts[1]
    assert texts[0][1] == texts[0][2]
    reason = resume(
        ts.Conversation(parts, tokenizer),
        read_conversation(path.parent / "whole.json"),
        path.parent / "whole.json",
        parts,
    )
    assert reason is not None
    assert "saved by one process" in reason


def test_a_cache_belongs_to_its_division(stories: Both, tmp_path: Path) -> None:
    whole, parts, tokenizer = stories
    L, ids = len(whole.blocks), np.array(tokenizer.encode(PROMPT))
    _, other, _ = loaded("stories", 1, L)
    _, alike, _ = loaded("stories", L // 2, L)
    for model, path in ((whole, tmp_path / "whole"), (parts, tmp_path / "parts")):
        cache = model.new_cache()
        model(ids, cache=cache)
        cache.save(path)
    next_logits = whole(ids[:3], cache=whole.load_cache(tmp_path / "whole"))
    assert np.array_equal(alike(ids[:3], cache=alike.load_cache(tmp_path / "parts")), next_logits)
    halves = f"2 processes, with layers 0–{L // 2 - 1}, {L // 2}–{L - 1}"
    for model, name, message in (
        (whole, "parts", f"saved by {halves}, and the model is in one process"),
        (parts, "whole", f"saved by one process, and the model is in {halves}"),
        (other, "parts", f"saved by {halves}, and the model is in 2 processes, with layers 0, 1–{L - 1}"),
    ):
        with pytest.raises(CheckpointError, match=message):
            model.load_cache(tmp_path / name)


def test_a_cache_of_other_weights_on_a_follower_is_refused(tmp_path: Path) -> None:
    raw = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 50}
    architecture = model_class("gpt2")
    config = architecture.Config.from_dict(raw)
    weights = random_weights(architecture, config)
    changed = {**weights, "blocks.1.attention_norm.gain": np.full(16, 7, np.float32)}
    first, second = (
        divided(
            lambda part, arrays=arrays: architecture(config, arrays, part=part), 2, [range(1), range(1, 2)]
        )
        for arrays in (weights, changed)
    )
    cache = first.new_cache()
    first(np.arange(5), cache=cache)
    cache.save(tmp_path / "cache")
    with pytest.raises(CheckpointError, match="belongs to another model"):
        second.load_cache(tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_element_types(dtype: str) -> None:
    whole, parts, tokenizer = loaded("stories", 1, 3, len(ts.load("stories")[0].blocks), dtype=dtype)
    ids = tokenizer.encode(PROMPT)
    assert np.array_equal(parts(ids), whole(ids))
    for model in (whole, parts):
        model.move_into_memory()
    assert np.array_equal(parts(ids), whole(ids))


@pytest.mark.parametrize("dtype", ["int8", "mxfp4"])
def test_packed_files(dtype: str, tmp_path: Path) -> None:
    directory = tmp_path / dtype
    convert("stories", directory, dtype)
    whole, parts, tokenizer = loaded(directory, 2, len(ts.load("stories")[0].blocks))
    ids = tokenizer.encode(PROMPT)
    assert np.array_equal(parts(ids), whole(ids))


def test_a_gguf_file(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the reference for GGUF: pip install --no-deps gguf")
    from gguf import GGMLQuantizationType
    from gguf_conversion import write_gguf
    from parity import reference_model

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    reference_model("llama", **sizes, num_key_value_heads=2).save_pretrained(tmp_path)
    path = write_gguf(tmp_path, tmp_path / "it.gguf", GGMLQuantizationType.Q8_0)
    whole, parts, _ = loaded(path, 1, 2, 3)
    ids = np.arange(1, 30)
    assert np.array_equal(parts(ids), whole(ids))


def test_as_text(stories: Both) -> None:
    """The whole model is described, and a block of the picture stands for those of other processes."""
    whole, parts, _ = stories
    L = len(whole.blocks)
    assert repr(parts) == repr(whole)
    assert parts.parameters == whole.parameters
    picture = parts._repr_html_()
    assert f"blocks[0] … [{L // 2 - 1}]" in picture
    assert f"blocks[{L // 2}] … [{L - 1}]" in picture
    assert f"BlocksElsewhere(layers {L // 2} to {L - 1})" in picture


def test_activations_elsewhere_are_refused(stories: Both) -> None:
    _, parts, _ = stories
    with pytest.raises(InputError, match="other processes, where activations are not recorded"), ts.record():
        parts([1, 2, 3])
    assert np.isfinite(parts([1, 2, 3])).all()  # the followers were told nothing of that call


def test_after_ctrl_c_results_of_ended_calls_are_dropped(stories: Both, monkeypatch: Any) -> None:
    """Ctrl-C while the leader computes, and while it waits for the others."""
    whole, parts, tokenizer = stories
    ids = tokenizer.encode(PROMPT)
    ranks = parts.part.ranks

    def ctrl_c(*_: Any) -> Any:
        raise KeyboardInterrupt

    cache, expected = parts.new_cache(), whole(ids)
    parts(ids[:4], cache=cache)
    for what, name in ((ranks, "receive"), (parts, "embed"), (parts, "final_norm"), (ranks, "receive")):
        with monkeypatch.context() as patch:
            patch.setattr(what, name, ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                parts(ids[4:7], cache=cache)
    assert cache.lengths.tolist() == [4]
    assert np.array_equal(parts(ids), expected)
    one, other = whole.new_cache(), cache
    whole(ids[:4], cache=one)
    assert np.array_equal(parts(ids[4:], cache=other), whole(ids[4:], cache=one))


@pytest.mark.parametrize(("rank", "most"), [(0, 0.6), (1, 0.46)])
def test_memory_of_a_part(rank: int, most: float) -> None:
    """Rounded weights are in memory: a rank's own, and no others while it builds their hollow blocks."""
    L = len(ts.load("stories")[0].blocks)
    ranks = ThreadRanks(Rooms(2), rank)
    whole, own = (_rounded_bytes(part) for part in (None, Part(ranks, [range(L // 2), range(L // 2, L)])))
    assert own[0] < most * whole[0]
    assert own[1] < whole[1]


def _rounded_bytes(part: Part | None) -> tuple[int, int]:
    """The bytes of a model in int8, or of a part of it, and the most while it was built."""
    source = open_source(find_model("stories"))
    architecture, config = model_config(source, source.config)
    gc.collect()
    tracemalloc.start()
    try:
        model = architecture.from_checkpoint(config, source.checkpoint(source.config), (), "int8", part)
        found = tracemalloc.get_traced_memory()
        del model
    finally:
        tracemalloc.stop()
    return found
