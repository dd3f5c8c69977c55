"""Errors of the hub: a message of our own for each.

The library's own messages are long, and its HTTP client quotes a malformed access token in full: none of them
is repeated. People also paste a token into an address or in place of a model's name, and error messages end
in logs and bug reports: so every message is made by ``hub_error``.
"""

import errno
import os
import re
from pathlib import Path

from tinystar_np.errors import HubError

# The hub's tokens are "hf_" and 34 letters or digits. No name of a model has so many without a dash.
TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")
CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")

LOGIN = "log in with `hf auth login` or set HF_TOKEN"
SAID = "{host} answered HTTP {status} for {repository}"

# Faults, the problem, what to do; the first row that fits. A fault is an HTTP status, a name of errno, or the
# name of an error's class or base: the library's HTTP client is httpx, or httpx2 in newer versions.
SENTENCES = [
    ("GatedRepoError", "{repository} is gated: its authors ask for an agreement before anyone downloads it",
     f"Accept it at {{host}}/{{repository}}, then {LOGIN}."),
    ("RepositoryNotFoundError", "{host} has no model {repository}, or it is private",
     f"Check the spelling; for a private model {LOGIN}."),
    ("RevisionNotFoundError", "{repository} has no revision {revision!r} at {host}",
     "Ask for one of its branches, tags or commits, or for none."),
    ("DisabledRepoError", "{repository} has been disabled at {host}", "Use another model."),
    ("DamagedFileError",
     "{error} of {repository} arrived damaged: its bytes are not those that {host} announces",
     "It was not kept; the files before it were. Try again."),
    ("RemoteEntryNotFoundError", "{host} has not all the files that it lists for {repository}",
     "Try again in a few minutes; if this stays so, only the model's authors can mend it."),
    ("HTTP-401", f"{SAID}: the access token is not valid",
     "Log in with `hf auth login`, or correct HF_TOKEN."),
    ("HTTP-403", f"{SAID}: access is refused", "Use an access token that may read this model."),
    ("HTTP-429", f"{SAID}: too many requests",
     "Wait a few minutes; after `hf auth login` the limit is higher."),
    ("WrongLengthError", "{error} of {repository} arrives from {host} with the wrong length",
     "Try again; if it stays so, ask without a proxy in between, if there is one."),
    ("TooLargeError", "{error} of {repository} is larger than any model's file of this name",
     "Use another model or revision."),
    ("TooSlowError", "{host} sends {repository} too slowly",
     "Check the connection and try again: what has arrived is kept."),
    ("StrangeAnswerError", "{host} does not answer as a hub does: {error}",
     "Check HF_ENDPOINT if you set it, and whether this network asks for a login page first."),
    ("HTTP-5xx", f"{SAID}: the hub itself has a fault", "Try again in a few minutes."),
    ("HfHubHTTPError", SAID, "Check the model's name, and HF_ENDPOINT if you set it."),
    ("HFValidationError", "{repository!r} is no name of a model",
     "A model of the hub is named like openai-community/gpt2."),
    ("ProxyError", "The proxy did not let {repository} through", "Check HTTPS_PROXY and HTTP_PROXY."),
    ("TimeoutException", "{host} did not answer in time for {repository}",
     "Check the connection and try again: what has arrived is kept."),
    ("RemoteProtocolError ReadError", "The connection to {host} broke off while fetching {repository}",
     "Try again: what has arrived is kept."),
    ("NetworkError OfflineModeIsEnabled",
     "{host} cannot be reached, and {repository} is not (or not all) on this machine",
     "Check the connection and try again, or give a local directory."),
    ("LocalProtocolError UnicodeEncodeError",
     "The request for {repository} could not be sent: the access token has characters no token has",
     "Correct HF_TOKEN, or log in again with `hf auth login`."),
    ("UnsupportedProtocol InvalidURL", "{host!r} is no address of a hub",
     "Correct HF_ENDPOINT: it looks like https://huggingface.co, which is also meant where it is not set."),
    ("ENOSPC EDQUOT", "The disk is full: {repository} does not fit into {cache}",
     "Free some, or set HF_HOME elsewhere."),
    ("EACCES EPERM EROFS", "{cache}: cannot be written",
     "Change its permissions, or set HF_HOME to a directory of yours."),
    ("Exception", "{repository} could not be fetched from {host} ({kind})", "Try again."),
]  # fmt: skip


def explain(error: BaseException, repository: str, revision: str, endpoint: str, cache: Path) -> HubError:
    """Return the error for a model that could not be fetched: why, and what to do.

    error       what the hub's library or the modules beside this one raised
    repository  such as "openai-community/gpt2"
    revision    the revision that was asked for
    endpoint    the hub's address
    cache       the directory it was to be stored in
    """
    faults = _faults(error)
    problem, what_to_do = next(row[1:] for row in SENTENCES if not faults.isdisjoint(row[0].split()))
    address = re.split("[/?#]", endpoint.partition("://")[2] or endpoint)[0]
    facts = {
        "error": error,
        "kind": type(error).__name__,
        "repository": repository,
        "revision": revision,
        "host": address.rpartition("@")[2],  # without a password
        "status": status_of(error),
        "cache": cache,
    }
    return hub_error(f"{problem}.\n{what_to_do}".format_map(facts))


def _faults(error: BaseException) -> set[str]:
    """Return an error's faults, by their names in SENTENCES."""
    status = status_of(error)
    faults = {kind.__name__ for kind in type(error).__mro__} | {f"HTTP-{status}", f"HTTP-{status // 100}xx"}
    if isinstance(error, OSError) and error.errno is not None:
        faults.add(errno.errorcode.get(error.errno, ""))
    return faults


def status_of(error: BaseException) -> int:
    """Return the status of the HTTP response that an error is about, 0 if there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def hub_error(message: str) -> HubError:
    """Return an error with this message, without access tokens and passwords that it may quote."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if len(token) >= 8:
        message = message.replace(token, "hf_…")
    return HubError(TOKEN.sub("hf_…", CREDENTIALS.sub("", message)))
