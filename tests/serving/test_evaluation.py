"""The model of lm-evaluation-harness, held against the harness's own ``hf`` on the same files."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("lm_eval", reason="the evaluation harness is not here: pip install 'tinystar_np[eval]'")

from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.evaluation import TinyStarLM, register

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<|endoftext|>{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def directory(talking_model: Path) -> Path:
    end = "<|endoftext|>"
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end}
    (talking_model / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    return talking_model


@pytest.fixture
def ours(directory: Path) -> TinyStarLM:
    return TinyStarLM(directory, dtype="float32")


@pytest.fixture
def theirs(directory: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    # In float32 the logarithm of torch's softmax is off by 1e-5 over large vocabularies.
    return HFLM(str(directory), device="cpu", dtype="float32", batch_size=3, softmax_dtype="float64")


def asked(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]


QUESTIONS = [
    (context, choice)
    for context in ("What is it?", "The sum of two and two, which everybody knows, is ", "Y" * 60 + " ", "")
    for choice in (" yes", " no, not at all", "x", " yes", "<|endoftext|>z")
] + [("z" * 120, " cut from the left"), ("a <|endoftext|> b", " c")]


def test_log_likelihoods_are_those_of_hf(ours: TinyStarLM, theirs: Any) -> None:
    requests = asked("loglikelihood", *QUESTIONS)
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    found = ours.loglikelihood(requests, disable_tqdm=True)
    np.testing.assert_allclose([each[0] for each in found], [each[0] for each in expected], rtol=0, atol=1e-4)
    assert [each[1] for each in found] == [each[1] for each in expected]
    assert (ours.max_length, ours.prefix_token_id, ours.eot_token_id) == (96, 256, 256)


def test_greedy_continuations_are_said_to_be(ours: TinyStarLM, theirs: Any) -> None:
    (text,) = theirs.generate_until(
        asked("generate_until", ("Hello", {"until": [], "max_gen_toks": 3})), disable_tqdm=True
    )
    ids = ours.tok_encode("Hello")
    found = ours._loglikelihood_tokens(
        [(None, ids, ours.tok_encode(end)) for end in (text, text[:1] + "~~")], disable_tqdm=True
    )
    assert [greedy for _, greedy in found] == ["�" not in text, False] or "�" in text


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_the_batch_size_changes_no_bit(directory: Path, ours: TinyStarLM, size: int) -> None:
    requests = asked("loglikelihood", *QUESTIONS)
    other = TinyStarLM.create_from_arg_obj(
        {"pretrained": str(directory), "dtype": "float32"}, {"batch_size": size, "device": "cuda:0"}
    )
    assert other.loglikelihood(requests) == ours.loglikelihood(requests)


def test_rolling_log_likelihoods_are_those_of_hf(ours: TinyStarLM, theirs: Any) -> None:
    texts = ["short", "l" * 96, "long " * 60, "", "x" * 97]
    requests = asked("loglikelihood_rolling", *((text,) for text in texts))
    expected = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    np.testing.assert_allclose(ours.loglikelihood_rolling(requests), expected, rtol=1e-6, atol=1e-4)


def test_answers_are_those_of_hf(ours: TinyStarLM, theirs: Any) -> None:
    (free,) = theirs.generate_until(
        asked("generate_until", ("Hello", {"until": [], "max_gen_toks": 20})), disable_tqdm=True
    )
    inside = next(letter for letter in free[3:] if letter != "�")
    settings: list[dict[str, Any]] = [
        {"until": [], "max_gen_toks": 12},
        {"until": inside, "max_gen_toks": 20, "do_sample": False, "temperature": 0.7},
        {"until": [inside * 5, inside], "max_tokens": 20},
        {"max_gen_toks": 1},
    ]
    arguments = [(text, each) for text in ("Hello", "l" * 200, "x") for each in settings]
    expected = [
        theirs.generate_until(asked("generate_until", each), disable_tqdm=True)[0] for each in arguments
    ]
    assert ours.generate_until(asked("generate_until", *arguments)) == expected
    assert any(inside not in answer and answer for answer in expected)


def test_more_answers_than_the_engine_takes_at_once(ours: TinyStarLM) -> None:
    arguments = [(f"number {i}", {"until": [], "max_gen_toks": 2}) for i in range(150)]
    together = ours.generate_until(asked("generate_until", *arguments))
    assert together[::30] == [
        ours.generate_until(asked("generate_until", each))[0] for each in arguments[::30]
    ]


def test_settings_that_are_not_known(ours: TinyStarLM) -> None:
    with pytest.raises(InputError, match="num_beams"):
        ours.generate_until(asked("generate_until", ("a", {"until": [], "num_beams": 3})))
    with pytest.raises(InputError, match="leave no room"):
        ours.generate_until(asked("generate_until", ("a", {"until": [], "max_gen_toks": 96})))
    drawn = {"until": [], "do_sample": True, "temperature": 5.0, "top_k": 3, "seed": 1, "max_gen_toks": 8}
    once, again = (ours.generate_until(asked("generate_until", ("a", drawn)))[0] for _ in range(2))
    assert (
        once == again != ours.generate_until(asked("generate_until", ("a", {**drawn, "do_sample": False})))[0]
    )


def test_reasoning_is_left_out(directory: Path, ours: TinyStarLM) -> None:
    (end,) = ours.tok_encode("#")
    for mark in ("#", end, str(end)):
        model = TinyStarLM(directory, think_end_token=mark)
        for text, expected in (("so. # or so # yes. no", "yes"), ("yes. no", "yes"), ("so. #", "")):
            assert model._answer(model.tok_encode(text), [".", "<|endoftext|>"]) == expected


def test_chats(ours: TinyStarLM, theirs: Any) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]
    system = [{"role": "system", "content": "Be kind."}, *turns]
    for messages, prompt in ((turns[:1], True), (turns, False), (system, False), (system[:2], True)):
        text = ours.apply_chat_template(messages, prompt)
        assert text == theirs.apply_chat_template(messages, prompt)
        assert ours.tok_encode(text) == theirs.tok_encode(text)
    assert ours.chat_template(True) == theirs.chat_template(True) == TEMPLATE
    assert ours.chat_template(False) is None
    assert "/" not in ours.tokenizer_name
    with pytest.raises(InputError):
        ours.apply_chat_template([])


def test_models_without_a_template_or_a_tokenizer(talking_model: Path) -> None:
    plain = TinyStarLM(talking_model)
    with pytest.raises(TokenizerError, match="no chat template"):
        plain.apply_chat_template([{"role": "user", "content": "Hi"}])
    with pytest.raises(TokenizerError, match="no chat template"):
        plain.chat_template(True)
    (talking_model / "tokenizer.json").rename(talking_model.parent / "tokenizer.json")
    with pytest.raises(TokenizerError, match="no tokenizer files"):
        TinyStarLM(talking_model)
    elsewhere = TinyStarLM(talking_model, talking_model.parent)
    again = TinyStarLM(elsewhere.model, plain._tokens.tokenizer)
    requests = asked("loglikelihood", *QUESTIONS[:3])
    assert elsewhere.loglikelihood(requests) == again.loglikelihood(requests) == plain.loglikelihood(requests)


def test_lengths_that_the_model_does_not_have(directory: Path) -> None:
    assert TinyStarLM(directory, max_length=50).max_length == 50
    with pytest.raises(InputError, match="max_length = 97"):
        TinyStarLM(directory, max_length=97)


def test_what_was_scored_is_kept(ours: TinyStarLM, tmp_path: Path) -> None:
    """Each result is stored as soon as it is known, as the harness stores it: nothing is scored twice."""
    requests = asked("loglikelihood", *QUESTIONS)
    answers = asked("generate_until", ("Hello", {"until": [], "max_gen_toks": 3}))
    texts = asked("loglikelihood_rolling", ("text",), ("another",))
    first = CachingLM(ours, str(tmp_path / "kept.db"))
    kept = first.loglikelihood(requests), first.generate_until(answers), first.loglikelihood_rolling(texts)
    stored = dict(first.dbdict)
    assert len(stored) == len({(*args,) for args in QUESTIONS}) + 3
    none = SimpleNamespace(set_cache_hook=lambda hook: None)  # has nothing to score with
    again = CachingLM(none, str(tmp_path / "kept.db"))  # type: ignore[arg-type]
    for name in ("loglikelihood", "generate_until", "loglikelihood_rolling"):
        setattr(none, name, None)
    found = again.loglikelihood(requests), again.generate_until(answers), again.loglikelihood_rolling(texts)
    assert found == kept


def test_the_harness_finds_it() -> None:
    from lm_eval.api.registry import get_model

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    path = declared["project"]["entry-points"]["lm_eval.models"]["tinystar"]
    module, _, name = path.partition(":")
    assert getattr(import_module(module), name) is TinyStarLM
    register()
    register()
    assert get_model("tinystar") is TinyStarLM
    assert get_model("hf").__name__ == "HFLM"


def test_the_command(directory: Path, tmp_path: Path) -> None:
    """The example tasks, from the command line."""
    tasks = ROOT / "examples" / "evaluation"
    names = [
        yaml.safe_load(file.read_text(encoding="utf-8"))["task"] for file in sorted(tasks.glob("*.yaml"))
    ]
    command = [sys.executable, "-m", "tinystar_np.evaluation", "--model", "tinystar"]
    command += ["--model_args", f"pretrained={directory}", "--tasks", ",".join(names)]
    command += ["--include_path", str(tasks), "--limit", "2", "--output_path", str(tmp_path / "results.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = tmp_path.glob("results*.json")
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert results.keys() == set(names)
    assert len(names) == 4
    assert all(name in done.stdout for name in names)


def test_the_benchmark(directory: Path, tmp_path: Path) -> None:
    """It runs to its end, and finds the two engines equal."""
    story = (
        "One day a cat sat. It saw a dog. The dog ran off! Was it far? It was. They met again. All was well."
    )
    text = tmp_path / "stories.txt"
    text.write_text("\n\n".join(story.replace("cat", animal) for animal in "abcdefghij"), encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "evaluation.py"), str(directory), str(text)]
    command += ["--requests", "8", "--rounds", "2", "--batch", "2", "3", "--softmax-dtype", "float64"]
    command += ["--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["best"] in (2, 3)
    for kind in ("choices", "pairs", "texts"):
        assert len(found[f"{kind} ours"]) == len(found[f"{kind} hf"]) == 2
        (apart,) = re.findall(r"largest difference (\S+),", found[kind])
        assert float(apart) < 1e-3
        assert kind == "texts" or "0 answers differ" in found[kind]
