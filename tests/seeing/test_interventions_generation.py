"""Interventions while texts are generated: streams, rows that end, guesses, conversations, rereading."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, random_ids, reference_model, save
from small_models import small_model

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder

PROMPT = "Once upon a time there was a"
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def stories() -> Any:
    return ts.load("stories", dtype="float32")


def direction(model: Decoder, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(0).normal(size=model.config.sizes["D"])


def steered(model: Decoder, scale: float = 6.0, **choice: Any) -> Any:
    return ts.steer("blocks.1.residual", direction(model), scale=scale, **choice)


def greedy(model: Decoder, ids: list[int], new: int) -> list[int]:
    """Read everything anew for each token, without a cache: the new ids."""
    text = list(ids)
    for _ in range(new):
        text.append(int(model(text)[-1].argmax()))
        if text[-1] in model.end_ids:
            break
    return text[len(ids) :]


@pytest.mark.parametrize("positions", [None, slice(9, None), [3, 10], range(0, 40, 3)])
def test_a_generated_text_is_the_one_of_reading_all_anew(stories: Any, positions: Any) -> None:
    model, tokenizer = stories
    ids = tokenizer.encode(PROMPT)
    with steered(model, positions=positions):
        expected = greedy(model, ids, 12)
    assert expected != greedy(model, ids, 12)
    with steered(model, positions=positions):
        assert ts.generate_ids(model, ids, **GREEDY) == expected
    with steered(model, positions=positions):
        assert ts.generate(model, tokenizer, PROMPT, **GREEDY) == tokenizer.decode(expected)
    with steered(model, positions=positions):
        pieces = list(ts.stream(model, tokenizer, PROMPT, **GREEDY))
    assert [piece.token_id for piece in pieces] == expected


def test_a_stream_hears_while_it_is_used(stories: Any) -> None:
    """What is generated after the block is as the model is; what is never used up is an error."""
    model, tokenizer = stories
    with steered(model):
        pieces = ts.stream(model, tokenizer, PROMPT, **GREEDY)
        first = [next(pieces).token_id for _ in range(3)]
    rest = [piece.token_id for piece in pieces]
    ids = tokenizer.encode(PROMPT)
    cache = model.new_cache()
    with steered(model):
        model([*ids, *first[:-1]], cache=cache)
    assert ts.generate_ids(model, first[-1:], cache=cache, temperature=0.0, max_new_tokens=9) == rest
    with pytest.raises(InputError, match="what stream returns must be used up there"), steered(model):
        ts.stream(model, tokenizer, PROMPT, **GREEDY)


@pytest.mark.parametrize("name", ["rope, groups", "window", "mamba 2 and attention"])
def test_rows_keep_their_numbers_when_others_have_ended(name: str) -> None:
    model = small_model(name)
    prompts = [random_ids(n, seed=n).tolist() for n in (4, 9, 6, 5)]
    plain = [greedy(model, prompt, 12) for prompt in prompts]
    changed = []
    for prompt in prompts:
        with steered(model, 40.0, positions=slice(7, None)):
            changed.append(greedy(model, prompt, 12))
    assert all(a != b for a, b in zip(plain, changed, strict=True))
    expected = [changed[0], plain[1], changed[2], changed[3]]
    # A token that another row says first, and so leaves the batch before the others.
    model.end_ids = (plain[1][2],)
    try:
        with steered(model, 40.0, rows=[0, 2, 3], positions=slice(7, None)):
            found = ts.generate_ids(model, prompts, **GREEDY)
    finally:
        model.end_ids = ()
    assert len(found[1]) <= 3 < len(found[0])
    for ids, whole in zip(found, expected, strict=True):
        assert ids == whole[: len(ids)]


def test_guessed_tokens(shared: Path) -> None:
    model, tokenizer = ts.load(shared / "checkpoints" / "stories260K")
    ids = tokenizer.encode("Lily found a red ball. Lily found a red")
    settings = {"temperature": 0.0, "max_new_tokens": 40}
    found = []
    for guesses in ({}, {"prompt_lookup_num_tokens": 6}):
        with ts.steer("blocks.2.residual", direction(model, 0.3), positions=slice(len(ids), None, 2)):
            found.append(ts.generate_ids(model, ids, **settings, **guesses))
    assert found[0] == found[1] != ts.generate_ids(model, ids, **settings)


def test_a_direction_of_sadness(stories: Any) -> None:
    """The mean difference of sad and happy texts makes the shipped model write of the one or the other."""
    model, tokenizer = stories
    texts = {
        "sad": [
            "Tim was so sad. He cried and cried.",
            "Lily was sad. Her toy was broken.",
            "It cried all day.",
        ],
        "happy": ["Tim was so happy. He smiled and laughed.", "Lily was happy. Her toy was new."],
    }
    means = {}
    for kind, written in texts.items():
        found = []
        for text in written:
            with ts.record("blocks.3.residual") as recording:
                model(tokenizer.encode(text))
            found.append(recording["blocks.3.residual"][0].mean(axis=0))
        means[kind] = np.mean(found, axis=0)
    ids = tokenizer.encode("Once upon a time there was a dog named Max. Max was very")
    sad, happy = (tokenizer.encode(word)[0] for word in (" sad", " happy"))
    differences = []
    for scale in (-4.0, -2.0, 2.0, 4.0):
        with ts.steer("blocks.3.residual", means["sad"] - means["happy"], scale=scale):
            logits = model(ids, last_only=True)[0]
        differences.append(logits[sad] - logits[happy])
    assert differences == sorted(differences)
    assert differences[-1] > 1
    assert differences[0] < -1


def test_a_long_prompt_in_pieces_and_threads(stories: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = stories
    from tinystar_np.generation import loop

    ids = np.resize(random_ids(100, vocabulary=2048), 500)
    with steered(model, positions=[3, 77, 400]):
        expected = model(ids, last_only=True)
    monkeypatch.setattr(loop, "PREFILL", 60)
    with steered(model, positions=[3, 77, 400]):
        found = loop.prefill(model, ids.tolist(), model.new_cache())
    assert_close(found, expected)


def test_a_conversation(talking_model: Path) -> None:
    (talking_model / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    model, tokenizer = ts.load(talking_model)
    settings = {"temperature": 0.0, "max_new_tokens": 6}

    def talk() -> list[int]:
        conversation = ts.Conversation(model, tokenizer)
        said = [
            piece.token_id for text in ("Hi", "and then?") for piece in conversation.say(text, **settings)
        ]
        return said

    plain = talk()
    with ts.steer("blocks.1.residual", direction(model, 3.0)):
        found = talk()
    assert found != plain
    prompt = tokenizer.encode("[Hi]", add_special_tokens=False)
    with ts.steer("blocks.1.residual", direction(model, 3.0)):
        assert found[:6] == greedy(model, prompt, 6)


LENGTH = 16
LONGROPE = {
    "hidden_size": 32,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8 * LENGTH,
    "original_max_position_embeddings": LENGTH,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": LENGTH,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [1.0, 4.0, 7.0, 10.0],
    },
}


def test_tokens_that_are_read_again_are_changed_again(tmp_path: Path) -> None:
    """When a text crosses its trained length; also rows of a batch that cross at different times."""
    model = ts.load(save(reference_model("phi3", **LONGROPE), tmp_path), dtype="float32")[0]
    model.end_ids = ()
    ids = random_ids(LENGTH + 6)

    def changed() -> Any:
        return ts.steer("blocks.0.residual", direction(model), positions=[2, LENGTH - 1, LENGTH + 3])

    with changed():
        expected = model(ids)
    cache = model.new_cache()
    with changed(), ts.record("blocks.0.residual") as recording:
        found = [model(ids[i : i + 1], cache=cache) for i in range(len(ids))]
    assert recording["blocks.0.residual"].shape[1] == 1  # the new token alone
    assert_close(found[-1], expected[-1:])
    assert np.abs(expected[-1] - model(ids)[-1]).max() > 1e-3

    prompts = [ids[:length].tolist() for length in (3, LENGTH - 2, LENGTH + 1)]
    choice = {"rows": [1, 2], "positions": slice(2, None)}
    with ts.steer("blocks.0.residual", direction(model), positions=slice(2, None)):
        changed_rows = [greedy(model, prompts[i], 8) for i in (1, 2)]
    with ts.steer("blocks.0.residual", direction(model), **choice):
        rows = ts.generate_ids(model, prompts, temperature=0.0, max_new_tokens=8)
    assert rows == [greedy(model, prompts[0], 8), *changed_rows]
    assert changed_rows[0] != greedy(model, prompts[1], 8)
