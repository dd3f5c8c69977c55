"""Links of one's own, to weights on another disk: refused with what to do, and followed where asked."""

import os
import shutil
from pathlib import Path

import pytest

from tinystar_np.checkpoints import files_inside
from tinystar_np.checkpoints.files_inside import file_inside, links_followed
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, TokenizerError
from tinystar_np.loading import load

SHIPPED = Path(files_inside.__file__).parents[1] / "shipped" / "stories"
WEIGHTS, TEMPLATE = "model.safetensors", "chat_template.jinja"


@pytest.fixture
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose weights and chat template are links to another place."""
    folder = tmp_path_factory.mktemp("f")  # a short path: errors cut long ones
    directory, disk = folder / "model", folder / "other disk"
    shutil.copytree(SHIPPED, directory)
    disk.mkdir()
    shutil.move(directory / WEIGHTS, disk / WEIGHTS)
    (directory / WEIGHTS).symlink_to(disk / WEIGHTS)
    (disk / TEMPLATE).write_text("{{ messages[0].content }}", encoding="utf-8")
    (directory / TEMPLATE).symlink_to(disk / TEMPLATE)
    return directory


def test_the_default_refuses_and_says_what_to_do(linked: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        load(linked)
    target = linked.parent / "other disk" / WEIGHTS
    assert str(raised.value) == (
        f"{linked / WEIGHTS}: leads out of the model's directory, to {target}.\n"
        "If you made this link: --follow-links, load(…, follow_links=True), follows it for one call; "
        f"ln -f '{target}' {linked / WEIGHTS} makes a hard link of it, which is always followed."
    )
    assert os.system(str(raised.value).split("; ")[1].split(" makes a")[0]) == 0
    load(linked)  # a hard link is a file like any other


def test_on_another_disk_no_hard_link_is_offered(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        found = real(path, **how)
        if "other disk" not in str(path):
            return found
        fields = list(found)
        fields[2] += 1  # the device
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(
        CheckpointError, match=r"a hard link, .* cannot lead to another disk\. Or copy that file"
    ):
        file_inside(linked, WEIGHTS)


def test_followed_for_one_call(linked: Path) -> None:
    model, tokenizer = load(linked, follow_links=True)
    assert model.parameters == load("stories")[0].parameters
    assert tokenizer is not None
    assert tokenizer.chat_template is not None  # though it is used after the call
    with pytest.raises(CheckpointError, match="leads out"):
        load(linked)


def test_the_command_line(linked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["ask", "-m", str(linked), "-n", "5", "--temperature", "0", "Once upon a time"]
    assert tinystar(asked) == 1
    assert "--follow-links" in capsys.readouterr().err
    assert tinystar([*asked, "--follow-links"]) == 0
    followed = capsys.readouterr().out
    assert tinystar(["ask", "-m", "stories", *asked[3:]]) == 0
    assert followed == capsys.readouterr().out
    assert tinystar(asked) == 1  # it was for that call


@pytest.mark.parametrize("target", ["/dev/zero", "pipe", "."])
def test_no_device_pipe_or_directory_even_then(linked: Path, target: str) -> None:
    os.mkfifo(linked / "pipe")
    (linked / WEIGHTS).unlink()
    (linked / WEIGHTS).symlink_to(target)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        load(linked, follow_links=True)


def test_the_hubs_cache_keeps_its_links_inside_even_then(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "secret").touch()
    (snapshot / WEIGHTS).symlink_to(tmp_path / "secret")
    with links_followed(), pytest.raises(CheckpointError, match=r"leads out .*\nCopy that file"):
        file_inside(snapshot, WEIGHTS)


def test_a_name_in_an_index_is_a_plain_name_even_then(linked: Path) -> None:
    (linked / WEIGHTS).unlink()
    (linked / "model.safetensors.index.json").write_text(
        '{"weight_map": {"wte.weight": "../other disk/model.safetensors"}}'
    )
    with pytest.raises(CheckpointError, match="no plain name"):
        load(linked, follow_links=True)


def test_a_template_that_is_not_followed_is_an_error_where_it_is_used(linked: Path) -> None:
    (linked / WEIGHTS).unlink()
    shutil.copyfile(linked.parent / "other disk" / WEIGHTS, linked / WEIGHTS)
    tokenizer = load(linked)[1]
    assert tokenizer is not None
    with pytest.raises(TokenizerError, match="leads out"):
        tokenizer.chat_template  # noqa: B018
