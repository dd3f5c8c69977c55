"""``tinystar experiments --trained``: the numbers are the run's, and the words follow from the numbers."""

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from figures import assert_apart, saved_figures
from terminals import on_terminal

from tinystar_np.cli import experiments, trained_findings
from tinystar_np.cli.main import tinystar
from tinystar_np.cli.trained_table import LONG, SHORT, Compared
from tinystar_np.inspection.experiments import takes
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.trained import Training, read_training
from tinystar_np.models.tinystar import TinyStar

FAST = ["--rounds", "2", "--tokens", "12", "--new", "3"]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(experiments, "load_warning", lambda: None)


@pytest.fixture(scope="module")
def training() -> Training:
    return read_training()


def run(capsys: Any, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert tinystar(["experiments", "--trained", *arguments]) == code
    out, err = capsys.readouterr()
    return out, err


def compared(training: Training) -> list[Compared]:
    return [Compared(design, takes(design.config, (SHORT,)), None) for design in training.designs.values()]


def test_the_table(capsys: Any) -> None:
    out, err = run(capsys, "--rounds", "0")
    assert err == ""
    blocks = out.split("\n\n")
    assert [block.split(":")[0].split(",")[0] for block in blocks[:5]] == [
        "Cost", "Quality", "Recall", "Associative recall", "Associative recall",
    ]  # fmt: skip
    rows = [{line.split()[0]: line.split() for line in block.splitlines()[2:]} for block in blocks[:5]]
    # 6 layers, keys and values of 8, 2 or 1 heads of 28 floats; a latent of 56, a key of 14; 128 tokens.
    assert rows[0]["v0.3-mha"][-6:] == ["10.8", "KB", "5.51", "MB", "88.1", "MB"]
    assert rows[0]["v0.4-mqa"][-6:] == ["1.34", "KB", "688", "KB", "11.0", "MB"]
    assert rows[0]["v0.5-mla"][-6:-4] == ["1.68", "KB"]
    assert rows[0]["v0.7-swa"][-4:] == ["344", "KB", "344", "KB"]
    assert rows[0]["v0.1-baseline"][-1] == "MB*"
    assert rows[1]["v0.6-gelu"] == ["v0.6-gelu", "1.138", "0.991", "1.138", "0.892", "1.401", "1.268"]
    assert rows[1]["between"][2:] == ["0.005", "0.007", "0.005", "0.008", "0.009", "0.005"]
    assert rows[2]["v0.7-swa"][1:] == ["0.170", "0.121", "0.022", "0.006", "0.001", "0.000", "0.000"]
    assert rows[3]["guessing"][1:3] == ["50.4", "26.2"]
    assert rows[4]["v0.1-baseline"][-2:] == ["100.0", "62.6"]
    assert "tokens/s" not in out


def test_numbers_are_those_of_the_run_and_of_the_models(capsys: Any, training: Training) -> None:
    found = json.loads(run(capsys, "v0.7-swa", "v0.5-mla", *FAST, "--json")[0])
    assert (found["tokens"], found["new"], found["rounds"]) == (12, 3, 2)
    assert [row["name"] for row in found["designs"]] == ["v0.7-swa", "v0.5-mla"]
    assert found["noise"]["mean"] == training.noise()
    for row in found["designs"]:
        design = training.designs[row["name"]]
        model = TinyStar(design.config)
        assert row["parameters"] == model.parameters
        assert row["flops_per_token"] == {str(n): flops_per_token(model, n) for n in (12, SHORT, LONG)}
        assert row["cache_bytes"]["per_token"] == model.new_cache(1, 1).nbytes
        for tokens in (SHORT, LONG):
            assert row["cache_bytes"]["at"][str(tokens)] == model.new_cache(1, tokens).nbytes
        assert row["nats_per_byte"]["novels"] == {
            "median": design.runs[0].per_byte["novels"],
            "by_seed": [design.runs[0].per_byte["novels"]],
        }
        assert row["saved_by_a_copy"]["64"]["median"] == design.saved(64).median
        assert row["associative_recall"]["new"]["2"] == design.associative["new"].right[2]
        for speed in (row["prefill_tokens_per_second"], row["decode_tokens_per_second"]):
            assert len(speed["rounds"]) == 2
            assert min(speed["rounds"]) > 0


def test_without_rounds_nothing_is_measured(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "measure", lambda *_: pytest.fail("measured"))
    found = json.loads(run(capsys, "--rounds", "0", "--json")[0])
    assert found["tokens"] == 480  # what leaves room for 32 in a context of 512
    assert {row["decode_tokens_per_second"] for row in found["designs"]} == {None}


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_a_terminal(columns: int) -> None:
    code, shown = on_terminal("experiments", "--trained", "--rounds", "0", "--color", "off", columns=columns)
    assert code == 0
    assert max(map(len, shown.split("Noise")[1].splitlines())) <= columns
    assert "between seeds" in shown


def said(training: Training) -> str:
    return "\n".join(trained_findings.findings(compared(training), training))


def changed(
    training: Training, name: str, losses: Mapping[str, float] | None = None, **changes: Any
) -> Training:
    """The same results, but for one design's: by how much its losses are greater, or parts of its runs."""
    design = training.designs[name]
    more = losses or {}
    runs = [
        replace(
            run, per_byte={text: nats + more.get(text, 0) for text, nats in run.per_byte.items()}, **changes
        )
        for run in design.runs
    ]
    return replace(training, designs={**training.designs, name: replace(design, runs=tuple(runs))})


def test_findings_are_those_of_this_run(training: Training) -> None:
    words = said(training)
    assert "has 1.112, 1.115 and 1.110 nats per byte, means of 5 texts. They differ by up to 0.0047" in words
    assert "than the noise: v0.1-baseline +0.0918 (19 times the noise, on 5 of 5 texts), v0.6-gelu" in words
    assert (
        "Better by more: none. Not told apart from it: v0.4-mqa +0.0035, v0.7-swa −0.0032 and v0.3" in words
    )
    assert "Least loss: v0.3-mha, 1.108, with a cache of 88.1 MB at 8192 tokens." in words
    assert (
        "within the noise of it: v0.7-swa 344 KB (1/256 of it) and v0.2-modern 22.0 MB (1/4 of it)" in words
    )
    assert (
        "v0.7-swa, whose layers attend to 128 tokens, saves no more than the noise from 320 tokens on"
        in words
    )
    assert "steps, one seed. No better than naming the commonest value of the row (50.4 % of 2 pairs" in words
    assert (
        "95 % or more right with up to 64 pairs: v0.3-mha and v0.6-gelu. Less: v0.1-baseline up to 32"
        in words
    )
    assert (
        "4.8 % of 64): v0.2-modern, v0.5-mla and v0.7-swa. v0.7-swa reaches 126 tokens back in rows" in words
    )


def test_words_follow_the_numbers(training: Training) -> None:
    """With other losses another design is the best, and one moves to the better side of the noise."""
    less = dict.fromkeys(training.texts, -0.02)
    words = said(changed(training, "v0.4-mqa", less))
    assert "Better by more: v0.4-mqa −0.0165 (3.5 times the noise, on 5 of 5 texts)." in words
    assert "Least loss: v0.4-mqa, 1.095, with a cache of 11.0 MB" in words
    assert "With a smaller one, and worse by more than the noise: v0.7-swa 344 KB (+0.0133" in words
    words = said(changed(training, "v0.6-gelu", {"novels": -0.14}))
    assert "Not told apart from it: v0.4-mqa +0.0035, v0.6-gelu −0.0019," in words
    # The noise is what the seeds differ by: with a wild one, it is all there is.
    base = training.repeated
    wild = replace(base.runs[2], per_byte={text: nats + 0.2 for text, nats in base.runs[2].per_byte.items()})
    noisy = replace(
        training, designs={**training.designs, base.name: replace(base, runs=(*base.runs[:2], wild))}
    )
    words = said(noisy)
    assert "They differ by up to 0.1979" in words
    assert "Worse than v0.2-modern by more than the noise: none. Better by more: none." in words


def test_words_on_windows_follow_the_numbers(training: Training) -> None:
    saving = dict.fromkeys(training.distances, training.designs["v0.7-swa"].runs[0].alone - 0.1)
    words = said(changed(training, "v0.7-swa", repeated=saving))
    assert "saves no more than the noise" not in words
    assert "one 448 tokens before saves from 0.039 (v0.4-mqa) to 0.100 (v0.7-swa)" in words


def test_words_on_associative_recall_follow_the_numbers(training: Training) -> None:
    design = training.designs["v0.5-mla"]
    solved = replace(
        design.associative["tuned"], right=dict.fromkeys(design.associative["tuned"].right, 0.99)
    )
    other = replace(design, associative={**design.associative, "tuned": solved})
    words = said(replace(training, designs={**training.designs, "v0.5-mla": other})).splitlines()[4]
    assert "95 % or more right with up to 64 pairs: v0.5-mla. No better than naming" in words
    assert "all of them" not in words


def limits(training: Training) -> str:
    return "\n".join(trained_findings.limits(compared(training), training))


def test_limits(training: Training) -> None:
    words = limits(training)
    assert "One run, on NVIDIA H200: 1,050 steps a design, 2.7 times through the text" in words
    assert "v0.2-modern was trained 3 times, the others once" in words
    assert (
        "All losses were still falling: between steps 900 and 1,050 by 0.006 to 0.010 nats per byte" in words
    )
    assert "from 4.02 M parameters (v0.4-mqa) to 4.66 M (v0.1-baseline)" in words
    ended = {900: 1.1, 1050: 1.2}
    words = limits(changed(training, "v0.3-mha", looks=ended))
    assert "1 of 9 losses no longer fell between steps" in words
    assert "still falling" not in words


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("rounds", ["0", "1"])
def test_picture(suffix: str, rounds: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"picture{suffix}"
    _, err = run(capsys, *FAST, "--rounds", rounds, "--plot", str(path))
    assert err.splitlines()[-1] == f"Picture: {path}"
    if suffix == ".png":
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert width == 11 * 150
        assert height > 1000
        return
    text = path.read_text()
    words = ["v0.1-baseline*", "v0.7-swa", "noise: 3 seeds of v0.2-modern", "nats saved, copy 448 before"]
    for each in words:
        assert f"<!-- {each} -->" in text
    assert ("<!-- prefill 12, tokens/s -->" in text) == (rounds == "1")


def test_nothing_in_the_picture_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = saved_figures(monkeypatch)
    assert tinystar(["experiments", "--trained", *FAST, "--plot", str(tmp_path / "a.png"), "-q"]) == 0
    (figure,) = figures
    figure.draw_without_rendering()
    boxes = [figure._suptitle.get_window_extent(), figure._supxlabel.get_window_extent()]
    boxes += [text.get_window_extent() for axis in figure.axes for text in axis.texts]
    main, first = figure.axes[:2]
    low, high = main.get_ylim()
    shown = [tick.label1 for tick in main.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    shown += [*main.get_xticklabels(), *first.get_yticklabels(), main.xaxis.label, main.yaxis.label]
    shown += [axis._left_title for axis in figure.axes[1:]]
    boxes += [label.get_window_extent() for label in shown if label.get_text()]
    assert len(boxes) > 55
    assert_apart(figure, boxes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["v9"], ["no results of 'v9'", "v0.1-baseline", "v0.7-swa"]),
        (["mine.yaml"], ["no results of 'mine.yaml'"]),
        (["--tokens", "500"], ["--tokens 500 and --new 32", "v0.1-baseline", "512"]),
        (["--new", "0"], ["--new 0", "1 or more"]),
    ],
)
def test_errors(arguments: list[str], words: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "measure", lambda *_: pytest.fail("measured"))
    out, err = run(capsys, *arguments, code=2)
    assert out == ""
    for word in words:
        assert word in err


@pytest.mark.parametrize("name", list(read_training().designs))
def test_one_design_alone_is_not_compared(name: str, capsys: Any, training: Training) -> None:
    words = " ".join(run(capsys, name, "--rounds", "0")[0].split())
    assert "between two that were trained once" not in words
    assert "They differ in size" not in words
    others_once = f", {name} once" if name != training.repeated.name else ""
    assert f"{training.repeated.name} was trained 3 times{others_once}: the noise itself is known" in words
    assert ("The loss was" in words) == bool(others_once)  # three seeds have three losses
