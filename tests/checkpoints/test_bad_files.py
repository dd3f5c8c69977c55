"""Bad files, one row for each fault: config.json, generation_config.json, and what is no file at all."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bad_files import (
    AGAIN,
    CONFIG,
    NOT_REGULAR,
    OUT,
    Row,
    assert_refused,
    config,
    content,
    good_tensors,
    in_place,
    link,
    sparse,
    write_good,
    write_sharded,
    write_tensors,
)

from tinystar_np.checkpoints import json_file
from tinystar_np.checkpoints.config_file import CONFIG_LIMIT
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, ConfigError, HubError
from tinystar_np.loading import load

C, G, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"

JSON: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1, column 1"),
    "cut": (b'{"model_type": "gp', "line 1"),
    "trailing": (b"{}\n{}", "line 2, column 1"),
    "array": (b"[1]", "holds a list"),
    "number": (b"1", "holds a int"),
    "null": (b"null", "holds a NoneType"),
    "not UTF-8": (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "NUL": (b'{"a": 1}\0', "line 1, column 9"),
    "65 lists": (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", "nested too deeply"),
    "900 lists": (b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", "nested too deeply"),
    "100 000 lists": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "100 000 objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "huge number": (b'{"a": ' + b"9" * 5000 + b"}", "4300"),
    "a key twice": (b'{"n_layer": 1, "n_head": 2, "n_layer": 3}', "the key 'n_layer' stands there twice"),
    "a key twice within": (b'{"a": [{"b": 1, "b": 1}]}', "the key 'b' stands there twice"),
    "a key of a MB twice": (b'{"%s": 1, "%s": 2}' % (b"k" * 10**6, b"k" * 10**6), "kkk' stands there twice"),
    "a key with orders to the terminal": (b'{"\\u001b[2J": 1, "\\u001b[2J": 1}', r"'\x1b[2J' stands there"),
    "many keys, the last twice": (
        b"{" + b",".join(b'"%d":0' % i for i in range(20_000)) + b',"19999":0}',
        "the key '19999' stands there twice",
    ),
}


END_IDS = ("</s>", -1, 1.5, True, [1, "2"], [[1]], {"id": 1}, [1] * 10_000 + [-1])


def damaged(name: str, fault: str) -> Row:
    """A file of JSON with a fault."""
    data, words = JSON[fault]
    return Row(content(name, data), CheckpointError, f"/{re.escape(name)}: .*{re.escape(words)}.*{AGAIN}")


def refused(spoil: Any, message: str) -> Row:
    return Row(spoil, CheckpointError, message)


ROWS: dict[str, Row] = {
    **{f"config: {fault}": damaged(C, fault) for fault in JSON},
    "config: missing": Row(lambda d: (d / C).unlink(), HubError, r"has no config\.json"),
    "config: no model_type": refused(
        content(C, "{}"), r"/config\.json: 'model_type' is None, expected a name"
    ),
    "config: a number for model_type": refused(config(model_type=3), "'model_type' is 3, expected a name"),
    "config: an unknown model_type": Row(
        config(model_type="xlnet"),
        ConfigError,
        r"'xlnet', which is not implemented here: .*\.\nThe nearest that runs is gpt2",
    ),
    "config: a model_type of a MB": Row(
        config(model_type="x" * 1_000_000), ConfigError, r"model_type 'x+\.\.\.x+', which is not implemented"
    ),
    "config: half a character for model_type": Row(
        config(model_type="\ud800"), ConfigError, r"model_type '\\ud800', which is not implemented"
    ),
    "config: a TB": refused(sparse(C, 1 << 40), r"/config\.json: larger than 4 MB.*\nDelete "),
    "config: a directory": refused(in_place(C, Path.mkdir), rf"/config\.json: {NOT_REGULAR}"),
    "config: a pipe": refused(in_place(C, os.mkfifo), rf"/config\.json: {NOT_REGULAR}"),
    "config: a link to a device": refused(in_place(C, link("/dev/zero")), rf"/config\.json: {OUT}/dev/zero"),
    "config: a link to elsewhere": refused(
        in_place(C, link("/etc/passwd")),
        rf"/config\.json: {OUT}/etc/passwd\.\nIf you made this link: --follow-links",
    ),
    "config: a link upwards": refused(in_place(C, link("..")), rf"/config\.json: {OUT}"),
    "config: a link to nothing": Row(in_place(C, link("none")), HubError, r"has no config\.json"),
    "config: a link to itself": Row(in_place(C, link(C)), HubError, r"has no config\.json"),
    **{f"generation: {fault}": damaged(G, fault) for fault in JSON},
    "generation: a pipe": refused(in_place(G, os.mkfifo), rf"/generation_config\.json: {NOT_REGULAR}"),
    "generation: a GB": refused(sparse(G, 1 << 30), r"/generation_config\.json: larger than 4 MB"),
    **{
        f"generation: end ids {str(ids)[:20]}": refused(
            content(G, json.dumps({"eos_token_id": ids})),
            r"/generation_config\.json: 'eos_token_id' is .*\nCorrect",
        )
        for ids in END_IDS
    },
    **{
        f"config: end ids {str(ids)[:20]}": refused(
            config(eos_token_id=ids), r"/config\.json: 'eos_token_id' is .*\nCorrect"
        )
        for ids in END_IDS
    },
}
UNREADABLE: dict[str, Row] = {
    "a directory": refused(in_place(WEIGHTS, Path.mkdir), rf"/model\.safetensors: {NOT_REGULAR}"),
    "a pipe": refused(in_place(WEIGHTS, os.mkfifo), rf"/model\.safetensors: {NOT_REGULAR}"),
    "a device": refused(in_place(WEIGHTS, link("/dev/zero")), rf"/model\.safetensors: {OUT}/dev/zero"),
    "a link to a name with a line break": refused(
        in_place(WEIGHTS, lambda p: [(p.parent.parent / "a\nb").touch(), p.symlink_to("../a\nb")]),
        rf"/model\.safetensors: {OUT}.*/a\\nb\.\n",
    ),
    "missing": refused(lambda d: (d / WEIGHTS).unlink(), r"has no model\.safetensors\.\nGive a directory"),
    "of another name": refused(
        lambda d: (d / WEIGHTS).rename(d / "weights.safetensors"),
        "neither model.safetensors nor .*\nRename the only file",
    ),
}


@pytest.mark.parametrize("row", [*ROWS.values(), *UNREADABLE.values()], ids=[*ROWS, *UNREADABLE])
def test_a_bad_file_is_refused(row: Row, tmp_path: Path, capsys: Any) -> None:
    assert_refused(row, write_good(tmp_path / "model"), capsys)


def test_the_models_that_are_spoiled_are_good(tmp_path: Path) -> None:
    one, two = (load(write(tmp_path / write.__name__))[0] for write in (write_good, write_sharded))
    assert (one([1, 2]) == two([1, 2])).all()
    (tmp_path / "untied").mkdir()
    (tmp_path / "untied" / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    write_tensors(tmp_path / "untied" / WEIGHTS, good_tensors(tie_word_embeddings=False))
    load(tmp_path / "untied")


def test_every_length_of_a_config(tmp_path: Path) -> None:
    directory = write_good(tmp_path)
    whole = (directory / C).read_bytes()
    for length in range(len(whole)):
        (directory / C).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"/config\.json: "):
            load(directory)


def test_json_as_large_as_may_be_takes_little_memory() -> None:
    assert CONFIG_LIMIT < json_file.SIZE_LIMIT <= 30_000_000  # times 20 in memory, at worst


def test_json_of_millions_of_lists() -> None:
    """Parsing them would take ten seconds and a gigabyte."""
    for some in (b"[],", b"{},"):
        with pytest.raises(CheckpointError, match="more than 2000000 lists and objects"):
            json_file.parse_json_object(b'{"a": [' + some * 2_000_000 + b"1]}", Path("config.json"))


@pytest.mark.parametrize(
    "name",
    ["config: a pipe", "config: a TB", "config: 100 000 lists"],
)
def test_a_process_of_its_own(name: str, tmp_path: Path) -> None:
    """The real command: it ends, with two lines at most, in bounded memory."""
    directory = write_good(tmp_path)
    ROWS[name].spoil(directory)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30));"
    code = f"{limited} import sys; from tinystar_np.cli.main import tinystar; sys.exit(tinystar())"
    found = subprocess.run(
        [sys.executable, "-c", code, "ask", "-m", str(directory), "Hello"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.splitlines()) <= 2


def test_a_traceback_is_shown_when_asked(tmp_path: Path, capsys: Any) -> None:
    directory = write_good(tmp_path)
    (directory / WEIGHTS).write_bytes(b"")
    assert tinystar(["ask", "-m", str(directory), "Hello", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err
