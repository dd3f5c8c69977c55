"""What is kept on this disk is listed and removed: models of the hub's cache, broken downloads."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hub_machine import NEEDED, put_snapshot
from hub_server import Hub

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.checkpoints.remove_models import find_kept, partial_downloads, remove
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import HubError

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine")
MODEL = "owner/model"


@pytest.fixture
def cache(machine: Path) -> Path:
    return machine / "hf" / "hub"


def listed() -> set[str]:
    return {model.name for model in list_local_models() if model.place == "hub cache"}


def leave_parts(cache: Path, nbytes: int) -> Path:
    blobs = cache / "models--owner--half" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'c' * 64}.incomplete").write_bytes(b"x" * nbytes)
    return blobs


def test_a_downloaded_model_is_removed_with_all_it_took(served: Hub, cache: Path) -> None:
    """Downloaded as it is in use, beside another that stays; then it is downloaded again."""
    served.repositories["owner/other"] = NEEDED
    find_model(MODEL)
    find_model("owner/other")
    kept = find_kept(MODEL)
    assert kept.nbytes >= sum(len(NEEDED[name]) for name in NEEDED)
    remove(kept)
    assert listed() == {"owner/other"}
    left = [path for path in cache.rglob("*") if "models--owner--model" in str(path) and path.is_file()]
    assert all(path.suffix == ".lock" for path in left)
    with pytest.raises(HubError):
        find_model(MODEL, offline=True)
    find_model(MODEL)
    assert listed() == {MODEL, "owner/other"}


def test_all_revisions_of_a_model_go(cache: Path) -> None:
    put_snapshot(cache, MODEL, NEEDED)
    put_snapshot(cache, MODEL, NEEDED, commit="b" * 40)
    remove(find_kept(MODEL))
    assert not (cache / "models--owner--model").exists()


def test_old_names_are_the_same_model(cache: Path) -> None:
    put_snapshot(cache, "openai-community/gpt2", NEEDED)
    assert find_kept("gpt2").folder == cache / "models--openai-community--gpt2"


def test_parts_of_broken_downloads(cache: Path) -> None:
    put_snapshot(cache, MODEL, NEEDED)
    blobs = leave_parts(cache, 5000)
    (blobs / "link.incomplete").symlink_to("/etc/hostname")
    (found,) = partial_downloads()
    assert (found.name, found.nbytes, found.partial) == ("owner/half", 5000, True)
    remove(found)
    assert partial_downloads() == []
    assert Path("/etc/hostname").exists() or not os.path.lexists("/etc/hostname")
    assert listed() == {MODEL}


def test_what_lies_outside_is_neither_found_nor_followed(cache: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "precious").write_text("kept")
    snapshot = put_snapshot(cache, MODEL, NEEDED)
    (snapshot / "folder").symlink_to(elsewhere)
    (cache / "models--owner--link").symlink_to(elsewhere)
    for name in ("../elsewhere", "..", ".", "a/../b", "/etc", "owner/../..", "", "no/such"):
        with pytest.raises(HubError, match="is not kept on this disk"):
            find_kept(name)
    remove(find_kept(MODEL))
    remove(find_kept("owner/link"))
    assert not (cache / "models--owner--link").is_symlink()
    assert (elsewhere / "deep" / "precious").read_text() == "kept"


def test_a_folder_that_the_library_does_not_know(cache: Path) -> None:
    leave_parts(cache, 10)
    remove(find_kept("owner/half"))
    assert not (cache / "models--owner--half").exists()


def test_the_command(cache: Path, capsys: Any) -> None:
    put_snapshot(cache, MODEL, NEEDED)
    leave_parts(cache, 2_000_000)
    assert tinystar(["models"]) == 0
    out = capsys.readouterr().out
    assert "owner/half         2.0 MB  parts of a broken download" in out
    assert f"The hub's cache has 2.00 MB: {cache}\n" in out
    assert tinystar(["models", "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert [(part["name"], part["nbytes"]) for part in as_json["partial_downloads"]] == [
        ("owner/half", 2_000_000)
    ]
    assert as_json["hub_cache"] == str(cache)
    assert tinystar(["remove", MODEL]) == 2  # stdin is no terminal
    assert "add --yes" in capsys.readouterr().err
    assert listed() == {MODEL}
    assert tinystar(["remove", "--yes", "-m", MODEL, "--partial"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith(f"{MODEL}  ")
    assert out.splitlines()[-1] == "Removed: 2.00 MB."
    assert listed() == set()
    assert tinystar(["remove", "--partial"]) == 0
    assert capsys.readouterr().out == "There is nothing to remove.\n"
    assert tinystar(["remove"]) == 2
    assert tinystar(["remove", "--yes", MODEL]) == 1
    assert "is not kept on this disk" in capsys.readouterr().err


def test_the_history_of_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    history = tmp_path / "typed"
    monkeypatch.setenv("TINYSTAR_NP_HISTORY", str(history))
    assert tinystar(["remove", "--history"]) == 0
    assert capsys.readouterr().out == "There is nothing to remove.\n"
    history.write_text('"Hello"\n')
    assert tinystar(["models"]) == 0
    assert f"What was typed in chat: 8 B, {history}\n" in capsys.readouterr().out
    assert tinystar(["remove", "--history"]) == 2  # stdin is no terminal
    assert history.exists()
    capsys.readouterr()
    assert tinystar(["remove", "--history", "--yes"]) == 0
    assert capsys.readouterr().out.endswith("Removed: 8 B.\n")
    assert not history.exists()


def test_at_a_terminal_it_asks(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    put_snapshot(cache, MODEL, NEEDED)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code, left in [("n", 1, {MODEL}), ("", 1, {MODEL}), ("y", 0, set())]:
        monkeypatch.setattr("builtins.input", lambda answer=answer: answer)
        assert tinystar(["remove", MODEL]) == code
        assert listed() == left
    assert "Remove? [y/N] " in capsys.readouterr().err


def test_no_permission_is_an_error_of_ours(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_parts(cache, 10)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(HubError, match=r"models--owner--half: cannot be removed \(Permission denied\)"):
        remove(find_kept("owner/half"))
