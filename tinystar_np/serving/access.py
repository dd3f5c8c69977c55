"""Access control: which requests are answered.

With an API key, those that carry it. Without one the server listens on the loopback alone, and a request must
name the server by one of its own names, so that no page of another site reaches it (DNS rebinding).
"""

import hmac
import ipaddress
import os
import re
import socket
from collections.abc import Mapping

from tinystar_np.errors import InputError
from tinystar_np.serving.api_errors import ApiError

OPEN = ("/", "/health")
"""Paths that need no key: they say nothing of the models."""
OPEN_FOLDERS = ("/page/", "/look/")
"""Folders that need none: the files of the page, and pages whose names are as hard to guess as a key."""
VARIABLE = "TINYSTAR_API_KEY"
"""The environment variable that holds the key."""


def is_loopback(host: str) -> bool:
    """Say whether all addresses of a host's name are this machine's own."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)


def check_key(key: str) -> None:
    """Raise InputError for a key that no header could carry; it is not quoted."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("The API key must be visible ASCII characters, at least one and no spaces.")


class Access:
    """Decides which requests are answered.

    key    what clients must send; None where everybody may ask
    hosts  the names that the Host header may have; None for any name
    """

    def __init__(self, key: str | None, hosts: frozenset[str] | None = None) -> None:
        self._key = None if key is None else key.encode()
        self._hosts = hosts

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise the ApiError that refuses a request."""
        name = _name(headers.get(b"host", b""))
        if self._hosts is not None and name not in self._hosts:
            words = f"The Host header names {name!r:.80}, and this server answers to its own address alone. "
            words += "Start it with --host, or with a key."
            raise ApiError(403, words, code="wrong_host")
        if self._key is None or path in OPEN or path.startswith(OPEN_FOLDERS):
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        # In the same time for every key that is wrong.
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
            asked = {"WWW-Authenticate": "Bearer"}
            words = "The API key is missing or wrong: send Authorization: Bearer KEY."
            raise ApiError(401, words, code="invalid_api_key", kind="authentication_error", headers=asked)


def own_names(host: str) -> frozenset[str]:
    """Return the names by which a server on the loopback is called."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower(), ""})


def _name(host: bytes) -> str:
    """Return the name in a Host header, without its port."""
    text = host.decode("latin-1").strip().lower()
    found = re.fullmatch(r"\[(.*)\](?::\d*)?|([^:]*)(?::\d*)?", text)
    return text if found is None else found[1] or found[2] or ""


def hide(secret: str) -> None:
    """Overwrite a secret in this process's command line, which everybody on the machine can read; on Linux.

    What is lost is only how the command looks in a list of processes.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            start, end = map(int, stat.read().rpartition(b")")[2].split()[45:47])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            line = memory.read(end - start)
            for found in re.finditer(re.escape(os.fsencode(secret)), line):
                memory.seek(start + found.start())
                memory.write(b"*" * len(found[0]))
    except (OSError, ValueError):
        pass
