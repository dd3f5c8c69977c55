"""What may go wrong on the way to the hub: each fault has its own plain words, at the real command line."""

import errno
import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_machine import NEEDED, SHARDED, TOKEN, UNWANTED, message_of, only, put_snapshot
from hub_server import Fault, Hub
from huggingface_hub import constants

from tinystar_np.checkpoints import hub_answers, hub_store
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import HubError

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "impatient")

PASSWORD = "passwordpassword"
ASK = ("ask", "hello", "-m")

# What the hub does → what is said. {host} is the hub's.
FAULTS = {
    "gated": (Fault(403, "GatedRepo"), ["is gated", "Accept it at {host}/owner/model", "hf auth"]),
    "missing": (Fault(404, "RepoNotFound"), ["{host} has no model owner/model", "Check the spelling"]),
    "private": (Fault(401, "RepoNotFound"), ["{host} has no model owner/model", "or it is private"]),
    "disabled": (Fault(403, message="Access to this resource is disabled."), ["has been disabled at {host}"]),
    "wrong token": (
        Fault(401, message="Invalid credentials in Authorization header"),
        ["HTTP 401", "access token is not valid", "correct HF_TOKEN"],
    ),
    "401": (Fault(401), ["{host} answered HTTP 401", "access token is not valid"]),
    "403": (Fault(403), ["{host} answered HTTP 403", "access is refused", "token that may read this model"]),
    "404": (Fault(404), ["{host} answered HTTP 404", "HF_ENDPOINT"]),
    "429": (Fault(429), ["{host} answered HTTP 429", "too many requests", "Wait a few minutes"]),
    "500": (Fault(500), ["{host} answered HTTP 500", "the hub itself", "Try again in a few minutes"]),
    "503": (Fault(503), ["{host} answered HTTP 503", "the hub itself", "Try again in a few minutes"]),
    "login page": (Fault(page=True), ["{host} does not answer as a hub does", "login page"]),
    "never answers": (Fault(hang=True), ["{host} did not answer in time", "Check the connection"]),
    "files gated": (Fault(403, "GatedRepo", on_files_only=True), ["owner/model is gated"]),
    "files 401": (Fault(401, on_files_only=True), ["HTTP 401", "access token is not valid"]),
    "files 404": (Fault(404, "EntryNotFound", on_files_only=True), ["{host} has not all the files"]),
    "files 429": (Fault(429, on_files_only=True), ["HTTP 429", "Wait a few minutes"]),
    "files 500": (Fault(500, on_files_only=True), ["HTTP 500", "Try again in a few minutes"]),
    "files never come": (Fault(hang=True, on_files_only=True), ["{host} did not answer in time"]),
    "stalls": (Fault(stall_after=5, no_ranges=True), ["{host} did not answer in time", "is kept"]),
    "breaks": (Fault(cut_after=5, no_ranges=True), ["connection to {host} broke off", "is kept"]),
    "too short": (Fault(announce=-3), ["from {host} with the wrong length"]),
    "shorter than listed": (Fault(api_size=3), ["from {host} with the wrong length"]),
    "damaged": (Fault(damage=True), [".json of owner/model arrived damaged", "those that {host} announces"]),
}  # fmt: skip

# Where it is looked for, and how → what is said.
SETTINGS = {
    "unknown branch": ({}, ["--revision", "v7"], ["has no revision 'v7' at {host}", "branches, tags"]),
    "unknown commit": ({}, ["--revision", "b" * 40], ["owner/model has no revision"]),
    "unknown short commit": ({}, ["--revision", "bbbbbbb"], ["owner/model has no revision 'bbbbbbb'"]),
    "offline": ({}, ["--offline"], ["not on this machine", "offline mode forbids", "without --offline"]),
    "HF_HUB_OFFLINE": ({"HF_HUB_OFFLINE": "1"}, [], ["not on this machine", "HF_HUB_OFFLINE"]),
    "TRANSFORMERS_OFFLINE": ({"TRANSFORMERS_OFFLINE": "1"}, [], ["not on this machine", "offline mode"]),
    "no scheme": ({"HF_ENDPOINT": "localhost"}, [], ["'localhost' is no address of a hub", "HF_ENDPOINT"]),
    "another scheme": ({"HF_ENDPOINT": f"ftp://u:{PASSWORD}@host"}, [], ["'host' is no address of a hub"]),
    "no host": ({"HF_ENDPOINT": "http://"}, [], ["is no address of a hub"]),
    "half a bracket": ({"HF_ENDPOINT": "http://[::1"}, [], ["'[::1' is no address of a hub"]),
    "no port": ({"HF_ENDPOINT": "http://host:port"}, [], ["'host:port' is no address of a hub"]),
    "password without scheme": ({"HF_ENDPOINT": f"u:{PASSWORD}@host"}, [], ["'host' is no address of a hub"]),
    "token for an address": ({"HF_ENDPOINT": TOKEN}, [], ["'hf_…' is no address of a hub"]),
    "control character in the token": ({"HF_TOKEN": "hf_secret\x0bx"}, [], ["Correct HF_TOKEN"]),
    "letter in the token": ({"HF_TOKEN": "hf_sécret"}, [], ["Correct HF_TOKEN"]),
}  # fmt: skip


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between tries


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Run a command that must fail plainly; returns what it says."""

    def run(*arguments: str) -> str:
        said = []
        for flags in ([], ["-v"]):
            code = tinystar([*arguments, *flags])
            output, errors = capfd.readouterr()
            assert (code, output) == (1, "")
            for secret in (TOKEN, PASSWORD, "cret"):
                assert secret not in errors
            said.append(errors)
        plain, verbose = said
        assert plain.startswith("error: ")
        assert 1 <= plain.count("\n") <= 3
        assert "Traceback" not in plain
        assert verbose.startswith("Traceback")
        assert verbose.count("Traceback") == 1  # of our error, and of none that led to it
        return plain

    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_hub(
    served: Hub, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    served.faults["owner/model"], words = FAULTS[fault]
    if served.faults["owner/model"].hang or served.faults["owner/model"].stall_after:
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
        if not served.faults["owner/model"].on_files_only:
            monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
        monkeypatch.setattr(hub_answers, "WINDOW", 1000)  # the client gives up first
    host = served.url.removeprefix("http://")
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{PASSWORD}@{host}")
    said = refused(*ASK, "owner/model")
    assert [word for word in words if word.format(host=host) not in said] == []


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(
    served: Hub, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    settings, flags, words = SETTINGS[case]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    said = refused(*ASK, "owner/model", *flags)
    assert [word for word in words if word.format(host=served.url.removeprefix("http://")) not in said] == []


def test_a_hub_that_does_not_exist(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{PASSWORD}@127.0.0.1:{port}")
    said = refused(*ASK, "owner/model")
    assert f"127.0.0.1:{port} cannot be reached, and owner/model is not" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            f"https://user:{PASSWORD}@huggingface.co/owner/model",
            ["'https://huggingface.co/owner/model': this is an address"],
        ),
        (f"https://{TOKEN}@huggingface.co/owner/model", ["HF_ENDPOINT says where another hub is"]),
        (f"http://host/?token={TOKEN}", ["Give only the model's name"]),
        (f"owner/{TOKEN}", ["no model owner/hf_…"]),
        ("hf_" + "a1B2" * 8 + "zz", ["no model hf_…"]),
    ],
)
def test_secrets_where_a_name_belongs(
    served: Hub, refused: Callable[..., str], name: str, words: list[str]
) -> None:
    said = refused(*ASK, name)
    assert "a1B2" not in said
    assert [word for word in words if word not in said] == []


def test_a_malformed_token_is_in_no_traceback(
    served: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sécret")
    with pytest.raises(HubError, match="Correct HF_TOKEN") as caught:
        find_model("owner/model")
    assert "cret" not in "".join(traceback.format_exception(caught.value)) + "".join(capfd.readouterr())


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(
    served: Hub, machine: Path
) -> None:
    pickles = {name: content for name, content in UNWANTED.items() if not name.endswith(".safetensors")}
    served.repositories["owner/old"] = {**pickles, **only("config.json", "tokenizer.json")}
    message = message_of("owner/old")
    assert "owner/old has no safetensors, only pytorch_model.bin" in message
    assert "save_pretrained" in message
    assert not served.downloads
    assert not (machine / "hf").exists()


def test_a_repository_without_config(served: Hub, refused: Callable[..., str]) -> None:
    served.repositories["owner/data"] = {"README.md": b"", "model.safetensors": b""}
    assert "owner/data has no config.json" in refused(*ASK, "owner/data")
    assert not served.downloads


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, "could not be fetched"),
    ],
)
@pytest.mark.parametrize(
    "where", [(hub_store.os, "replace"), (Path, "symlink_to"), (hub_store, "open_answer")]
)
def test_a_disk_that_does_not_take_it(
    served: Hub, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str], number: int, words: str
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        message = message_of("owner/model")
    assert words in message
    assert "owner/model" in message or "hub" in message
    assert find_model("owner/model")  # once there is room


# Offline


@pytest.mark.parametrize(
    ("present", "found"),
    [
        (["config.json"], None),
        (["config.json", "tokenizer.json"], None),
        (["config.json", "model.safetensors.index.json", *list(SHARDED)[1:2]], None),
        (["model.safetensors", "tokenizer.json"], None),
        (["config.json", "model.safetensors"], "model.safetensors"),  # as much as computing needs
        (list(NEEDED), "model.safetensors"),
        (["config.json", *SHARDED], list(SHARDED)[2]),
    ],
)
@pytest.mark.parametrize("by", ["argument", "1", "yes", "TRUE"])
def test_offline_with_a_cache(
    served: Hub,
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    present: list[str],
    found: str | None,
    by: str,
) -> None:
    if by != "argument":
        monkeypatch.setenv("HF_HUB_OFFLINE", by)
    snapshot = put_snapshot(machine / "hf" / "hub", "owner/model", only(*present))
    if found is None:
        assert "only a part of it is on this machine" in message_of("owner/model", offline=by == "argument")
    else:
        assert find_model("owner/model", offline=by == "argument") == snapshot
        assert (snapshot / found).exists()
    assert not served.requests


def test_offline_after_an_interrupted_download(served: Hub) -> None:
    served.faults["owner/model"] = Fault(500, only=".safetensors", on_files_only=True)
    message_of("owner/model")
    assert "only a part of it is on this machine" in message_of("owner/model", offline=True)
    assert "it is not on this machine" in message_of("owner/another", offline=True)


def test_inspect_offline_with_the_config_alone(
    served: Hub, machine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {
        "model_type": "gpt2",
        "vocab_size": 11,
        "n_positions": 8,
        "n_embd": 8,
        "n_layer": 1,
        "n_head": 2,
    }
    served.repositories["owner/model"] = NEEDED | {"config.json": json.dumps(config).encode()}
    assert tinystar(["inspect", "owner/model"]) == 0
    online = capfd.readouterr().out
    assert served.downloads == ["config.json"]
    served.requests.clear()
    assert tinystar(["inspect", "owner/model", "--offline"]) == 0
    assert capfd.readouterr().out == online
    assert not served.requests
