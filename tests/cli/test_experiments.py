"""``tinystar experiments``: it counts what models take, and says what follows from the numbers."""

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from figures import assert_apart, saved_figures
from terminals import on_terminal

from tinystar_np.cli import experiments, side_by_side
from tinystar_np.cli.main import tinystar
from tinystar_np.inspection import experiments as measuring
from tinystar_np.inspection.experiments import Experiment, Speed, takes
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.speed import Rounds
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig, configuration_names

SIZE = "hidden_size: 32\nnum_layers: 2\nnum_heads: 4\n"
SHORT = ["--rounds", "2", "--tokens", "20", "--new", "5"]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(experiments, "load_warning", lambda: None)


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Files of small configurations, of which one looks both ways, and so has no cache."""
    texts = {
        "grouped": "",
        "windowed": "mask: sliding_window\nwindow_size: 8\n",
        "both": "mask: bidirectional\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(SIZE + text)
    return [str(tmp_path / f"{name}.yaml") for name in texts]


def run(capsys: Any, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert tinystar(["experiments", *arguments]) == code
    out, err = capsys.readouterr()
    return out, err


def rows(out: str) -> dict[str, list[str]]:
    """The table's cells by configuration; of a table in several parts, those of all parts."""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        name, *cells = line.split("  ")
        if cells and name and name != "*":
            found.setdefault(name, []).extend(cell.strip() for cell in cells if cell.strip())
    return found


def test_shipped_configurations(capsys: Any) -> None:
    out, err = run(capsys, "--rounds", "0")
    assert err == ""
    table = rows(out)
    assert list(table) == configuration_names()
    assert table["v0.1-baseline"] == ["25.9 M", "104 MB", "32.8 KB", "1.07 GB*", "59.0 M"]
    assert table["v0.2-modern"] == ["22.2 M", "88.8 MB", "8.19 KB", "268 MB", "52.8 M"]
    # Keys and values of 8 layers: 2 · 8 · 64 floats; a latent of 128 + 32; a window of 256.
    assert table["v0.4-mqa"][2] == "4.10 KB"
    assert table["v0.5-mla"][2] == "5.12 KB"
    assert table["v0.7-swa"][3] == "2.10 MB"
    assert out.split("\n\n")[1:] == [
        "Cache per token: least v0.4-mqa, 4.10 KB; most v0.1-baseline and v0.3-mha, 32.8 KB, "
        "8 times as much.\n"
        "Least at 32768 tokens: v0.7-swa, 2.10 MB: its cache ends at the window.\n"
        "FLOPs of a token that sees 512: least v0.7-swa, 48.6 M; most v0.5-mla, 66.7 M, "
        "1.37 times as much.",
        "* More tokens than there are positions for: v0.1-baseline has 1024.\n"
        "FLOPs: the matrix products of one token, two operations per multiply-add.\n",
    ]


def test_a_pipe_gets_every_row_in_one_line(
    own: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out, _ = run(capsys, *own, *SHORT)
    assert [name for name in rows(out) if "." not in name] == ["grouped", "windowed", "both"]
    assert {len(cells) for cells in rows(out).values()} == {7}
    assert [i for i, cell in enumerate(rows(out)["both"]) if cell == "—"] == [2, 3, 6]


@pytest.mark.parametrize("columns", [70, 80, 140])
def test_the_table_fits_a_terminal(columns: int, own: list[str]) -> None:
    code, shown = on_terminal("experiments", *own, *SHORT, "--color", "off", columns=columns)
    assert code == 0
    tables = shown[shown.rindex("\x1b[K") + 3 :].split("\n\n")[:2]  # after what was shown meanwhile
    for table, head in zip(tables, ("parameters", "prefill"), strict=True):
        assert max(map(len, table.splitlines())) <= columns
        assert {head, "grouped", "windowed", "both", "—"} <= set(table.split())


def test_numbers_are_those_of_the_models(own: list[str], capsys: Any) -> None:
    found = json.loads(run(capsys, *own, *SHORT, "--json")[0])
    assert (found["tokens"], found["new"], found["rounds"]) == (20, 5, 2)
    assert {"processor", "cores", "threads", "numpy"} <= found["machine"].keys()
    for row, path in zip(found["configurations"], own, strict=True):
        config = TinyStarConfig.from_file(path)
        model = TinyStar(config)
        assert row["name"] == Path(path).stem
        assert TinyStarConfig.from_dict(row["config"]) == config
        assert row["parameters"] == model.parameters
        assert row["weight_bytes"] == sum(array.nbytes for array in model.weights.values())
        assert row["flops_per_token"] == {str(n): flops_per_token(model, n) for n in (20, 32768)}
        prefill, decode = row["prefill_tokens_per_second"], row["decode_tokens_per_second"]
        for speed in filter(None, (prefill, decode)):
            assert len(speed["rounds"]) == 2
            assert 0 < speed["lowest"] <= speed["median"] <= speed["highest"]
        if row["name"] == "both":
            assert row["cache_bytes"] is None
            assert decode is None
            continue
        assert row["cache_bytes"]["per_token"] == model.new_cache(1, 1).nbytes
        for tokens in (20, 32768):
            assert row["cache_bytes"]["at"][str(tokens)] == model.new_cache(1, tokens).nbytes


def test_speeds_are_of_turns(own: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[str, int, int]] = []

    def turn_of(kind: str) -> Any:
        def turn(engine: Any, ids: list[list[int]], new: int) -> tuple[float, float]:
            turns.append((kind, len(ids[0]), new))
            seconds = float(len(turns) - 3)  # 1, 2 … for those that count
            return seconds, 2 * seconds

        return turn

    monkeypatch.setattr(measuring.TinyStarEngine, "turn", turn_of("goes on"))
    monkeypatch.setattr(measuring.ReadingEngine, "turn", turn_of("reads"))
    found = json.loads(run(capsys, *own, *SHORT, "--json")[0])
    kinds = ["goes on", "goes on", "reads"]
    assert turns == [(kind, *at) for at in ((16, 4), (20, 5), (20, 5)) for kind in kinds]
    first, second, third = found["configurations"]
    assert first["prefill_tokens_per_second"]["rounds"] == [20 / 1, 20 / 4]
    assert second["prefill_tokens_per_second"]["rounds"] == [20 / 2, 20 / 5]
    assert second["decode_tokens_per_second"]["rounds"] == [5 / 4, 5 / 10]
    assert third["prefill_tokens_per_second"]["rounds"] == [20 / 3, 20 / 6]
    assert third["decode_tokens_per_second"] is None


def compared(**speeds: list[float]) -> list[Experiment]:
    config = TinyStarConfig()
    counted = takes(config, (512,))
    return [
        Experiment(name, config, counted, Speed(Rounds(tuple(rounds)), None))
        for name, rounds in speeds.items()
    ]


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        # The ranges overlap, but within each round the same one is faster.
        ({"a": [10, 20, 30], "b": [11, 21, 31]}, ["Fastest prefill: b, in every round."]),
        (
            {"a": [10, 22, 30], "b": [11, 21, 31]},
            ["Fastest prefill by the median: a; in some rounds b was faster."],
        ),
        (
            {"a": [9, 9, 9], "b": [8, 8, 10], "c": [7, 7, 11], "d": [1, 1, 1]},
            ["Fastest prefill by the median: a; in some rounds b and c were faster."],
        ),
        (
            {"a": [9, 9, 9], **{name: [8, 8, 10] for name in "bcdef"}},
            ["Fastest prefill by the median: a; in some rounds 5 others were faster."],
        ),
        ({"a": [10, 20], "b": [1, 2]}, []),  # too few to say so
        ({"a": [10, 20, 30]}, []),
    ],
)
def test_which_is_fastest(speeds: Mapping[str, list[float]], said: list[str]) -> None:
    assert side_by_side.findings(compared(**speeds), 512) == said


def test_speeds_are_medians_with_their_range() -> None:
    shown = side_by_side.quantities(512, 32)[5]
    several = compared(a=[1000, 1234.4, 999.6], b=[98.76, 101, 9.876], c=[5.0])
    assert [shown.cell(one) for one in several] == ["1000 (1000–1234)", "98.8 (9.88–101)", "5.00"]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_picture(suffix: str, own: list[str], tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"picture{suffix}"
    out, err = run(capsys, *own, *SHORT, "--plot", str(path))
    assert err.splitlines()[-1] == f"Picture: {path}"  # the first time, matplotlib tells about its fonts
    assert "grouped" in out
    if suffix == ".png":
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert width == 11 * 150
        assert height > 400
    else:
        text = path.read_text()
        for words in ("grouped", "cache per token", "prefill 20, tokens/s", "decode 5, tokens/s", "—"):
            assert f"<!-- {words} -->" in text
    path.unlink()
    assert run(capsys, *own, "--rounds", "0", "--plot", str(path), "-q")[1] == ""
    assert path.exists()


def test_nothing_in_the_picture_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = saved_figures(monkeypatch)
    names = [*configuration_names(), "a-long-name-of-my-own-making"]
    assert tinystar(["experiments", "--rounds", "0", "--plot", str(tmp_path / "a.png"), "-q"]) == 0
    config = TinyStarConfig.named("v0.2-modern")
    many = [
        Experiment(name, config, takes(config, (512,)), Speed(Rounds((12345.6, 999.0)), Rounds((123.4, 1.0))))
        for name in names
    ]
    panels = side_by_side.panels(many, side_by_side.quantities(512, 32))
    experiments.plot_small_multiples(tmp_path / "b.png", "Title", names, panels, "a\nnote")
    assert len(figures) == 2
    for figure in figures:
        figure.draw_without_rendering()
        axes = [axis for axis in figure.axes if axis.axison]
        boxes = [figure._suptitle.get_window_extent()]
        boxes += [axis.title.get_window_extent() for axis in axes]
        boxes += [text.get_window_extent() for axis in axes for text in axis.texts]
        boxes += [
            tick.get_window_extent() for axis in axes for tick in axis.get_yticklabels() if tick.get_visible()
        ]
        if figure._supxlabel:
            boxes.append(figure._supxlabel.get_window_extent())
        assert_apart(figure, boxes)


def never(*arguments: Any) -> None:
    raise AssertionError("measured before the arguments were checked")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["v9"], 1, ["There is no configuration 'v9'", *configuration_names(), ".yaml"]),
        (["nothing.yaml"], 1, ["nothing.yaml", "cannot be read"]),
        (["--tokens", "0"], 2, ["--tokens 0", "1 or more"]),
        (["--new", "0"], 2, ["--new 0", "1 or more"]),
        (["--rounds", "-1"], 2, ["--rounds -1", "0 or more"]),
        (["--tokens", "1000"], 2, ["--tokens 1000 and --new 32", "v0.1-baseline", "1024", "max_positions"]),
        (["--plot", "picture.gif"], 1, ["picture.gif", ".png or .svg"]),
        (["--plot", "no-directory/picture.png"], 1, ["no-directory", "No such file or directory"]),
        (["--plot", "directory.png"], 1, ["directory.png", "is a directory"]),
    ],
)
def test_errors(
    arguments: list[str],
    code: int,
    words: list[str],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experiments, "measure", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory.png").mkdir()
    out, err = run(capsys, *arguments, code=code)
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 3
    for word in words:
        assert word in err
    assert [path.name for path in tmp_path.iterdir()] == ["directory.png"]


def test_without_matplotlib(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "measure", never)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _, err = run(capsys, "--plot", str(tmp_path / "picture.png"), code=1)
    assert "A picture needs matplotlib" in err
    assert "pip install 'tinystar_np[plot]'" in err
    assert run(capsys, "--rounds", "0")[0]  # nobody else needs it


def test_names_of_files(own: list[str], tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    TinyStar(TinyStarConfig.from_file(own[0])).save(tmp_path / "saved")
    (tmp_path / "v0.4-mqa.yaml").write_text(SIZE)
    (tmp_path / "saved" / "grouped.toml").write_text("hidden_size = 64")
    files = [
        own[0],
        *(str(tmp_path / name) for name in ("saved/config.json", "saved/grouped.toml", "v0.4-mqa.yaml")),
    ]
    found = experiments.find_configs(["v0.4-mqa", *files])
    assert list(found) == ["v0.4-mqa", "grouped", "saved", files[2], files[3]]
    assert [config.hidden_size for config in found.values()] == [512, 32, 32, 64, 32]


def test_progress_is_shown_on_terminals_only(
    own: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, own[0], *SHORT)[1] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    _, err = run(capsys, own[0], *SHORT)
    said = [words.removesuffix("\x1b[K") for words in err.split("\r")[1:]]
    rounds = [f"round {i} of 2: 1 configurations" for i in (1, 2)]
    assert said == ["drawing weights", "warming up", *rounds, ""]
    assert run(capsys, own[0], *SHORT, "-q")[1] == ""
    monkeypatch.setenv("TERM", "dumb")
    assert run(capsys, own[0], *SHORT)[1] == ""


def test_a_busy_machine_is_said(own: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "load_warning", lambda: "The machine is busy.")
    assert run(capsys, own[0], *SHORT)[1] == "The machine is busy.\n"
    assert run(capsys, own[0], "--rounds", "0")[1] == ""
