"""What went wrong on the way to the hub, each fault in its own plain words.

The library's own messages are several lines for programmers; and a malformed access token is quoted by its
HTTP client in full. None of them is repeated here.
"""

import errno
from pathlib import Path

from huggingface_hub import errors

from tinystar_np.checkpoints.hub_file import DamagedFileError, WrongLengthError


def explain(error: BaseException, repository: str, revision: str | None, host: str, cache: Path) -> str:
    """Say in one or two lines why a model could not be fetched, and what to do.

    error       what the hub's library raised
    repository  such as "openai-community/gpt2"
    revision    the revision that was asked for
    host        where the hub is, such as "huggingface.co"
    cache       the directory it was to be stored in
    """
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        # "Not on disk" is only the end of the story; its cause is why it could not be fetched.
        error = error.__cause__
    login = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: its authors ask for an agreement before anyone downloads it.\n"
            f"Accept it at {host}/{repository}, then {login}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{host} has no model {repository}, or it is private.\n"
            f"Check the spelling; for a private model {login}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repository} has no revision {revision!r} at {host}.\n"
            "Ask for one of its branches, tags or commits, or for none."
        )
    if isinstance(error, errors.DisabledRepoError):
        return f"{repository} has been disabled at {host}.\nUse another model."
    if isinstance(error, DamagedFileError):
        return (
            f"{error} of {repository} arrived damaged: its bytes are not those that {host} announces.\n"
            "It was not kept; the files before it were. Try again."
        )
    if isinstance(error, errors.EntryNotFoundError) and isinstance(error, errors.HfHubHTTPError):
        return (
            f"{host} has not all the files that it lists for {repository}.\n"
            "Try again in a few minutes; if this stays so, only the model's authors can mend it."
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error.response.status_code, repository, host)
    if isinstance(error, errors.HFValidationError):
        return (
            f"{repository!r} is no name of a model.\nA model of the hub is named like openai-community/gpt2."
        )
    return _explain_connection(error, repository, host) or _explain_disk(error, repository, host, cache)


def _explain_status(status: int, repository: str, host: str) -> str:
    """Explain an HTTP answer that says no."""
    said = f"{host} answered HTTP {status} for {repository}"
    if status == 401:
        return (
            f"{said}: the access token is not valid.\nLog in again with `hf auth login`, or correct HF_TOKEN."
        )
    if status == 403:
        return f"{said}: access is refused.\nUse an access token that may read this model."
    if status == 429:
        return f"{said}: too many requests.\nWait a few minutes; after `hf auth login` the limit is higher."
    if status == 416:
        return _wrong_length(repository, host)
    if status >= 500:
        return f"{said}: the hub itself has a fault.\nTry again in a few minutes."
    return f"{said}.\nCheck the model's name, and HF_ENDPOINT if you set it."


def _explain_connection(error: BaseException, repository: str, host: str) -> str | None:
    """Explain a failed connection; None if the error is of another kind."""
    # The library's HTTP client is httpx or httpx2, by its version; their errors have the same names.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ProxyError" in kinds:
        return f"The proxy did not let {repository} through.\nCheck HTTPS_PROXY and HTTP_PROXY."
    if "TimeoutException" in kinds:
        return (
            f"{host} did not answer in time for {repository}.\n"
            "Check the connection and try again: what has arrived is kept."
        )
    if "RemoteProtocolError" in kinds or "ReadError" in kinds:
        return (
            f"The connection to {host} broke off while fetching {repository}.\n"
            "Try again: what has arrived is kept."
        )
    if kinds & {"NetworkError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}:
        return (
            f"{host} cannot be reached, and {repository} is not (or not all) on this machine.\n"
            "Check the connection and try again, or give a local directory."
        )
    if kinds & {"LocalProtocolError", "UnicodeEncodeError"}:
        return (
            f"The request for {repository} could not be sent: the access token has characters no token has.\n"
            "Correct HF_TOKEN, or log in again with `hf auth login`."
        )
    if kinds & {"UnsupportedProtocol", "InvalidURL"}:
        return f"{host} is no address of a hub.\nCorrect HF_ENDPOINT: it begins with https://."
    if kinds & {"FileMetadataError", "JSONDecodeError"}:
        return (
            f"{host} does not answer as a hub does.\n"
            "Check HF_ENDPOINT if you set it, and whether this network asks for a login page first."
        )
    return None


def _explain_disk(error: BaseException, repository: str, host: str, cache: Path) -> str:
    """Explain what is left: the disk, or something unknown."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {repository} does not fit into {cache}.\nFree some, or set HF_HOME elsewhere."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{cache}: cannot be written.\nChange its permissions, or set HF_HOME to a directory of yours."
    if isinstance(error, WrongLengthError) or "Consistency check failed" in str(error):
        return _wrong_length(repository, host)
    return f"{repository} could not be fetched from {host} ({type(error).__name__}).\nTry again."


def _wrong_length(repository: str, host: str) -> str:
    return (
        f"A file of {repository} arrived from {host} with the wrong length.\n"
        "Try again; if it stays so, ask without a proxy in between, if there is one."
    )
