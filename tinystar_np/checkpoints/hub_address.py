"""Where the hub is, and what no message may hold: passwords in its address, and access tokens.

A token comes from HF_TOKEN or from a file, and the library alone reads it. But people also paste one into an
address, or where a model's name belongs, and an error message would quote it, to end in a log or a bug
report. So all messages about the hub are made by ``hub_error``.
"""

import os
import re
from urllib.parse import urlsplit

from tinystar_np.errors import HubError

USUAL_ENDPOINT = "https://huggingface.co"

# The hub's tokens are "hf_" and 34 letters or digits. No name of a model has so many without a dash.
TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")
CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def hub_endpoint() -> str:
    """Read the hub's address from HF_ENDPOINT; raises HubError if it is none."""
    endpoint = (os.environ.get("HF_ENDPOINT") or USUAL_ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket without its other half
        usable = False
    if not usable:
        raise hub_error(
            f"{host_of(endpoint)!r} is no address of a hub.\n"
            f"Correct HF_ENDPOINT: it looks like {USUAL_ENDPOINT}, which is also meant where it is not set."
        )
    return endpoint


def host_of(endpoint: str) -> str:
    """Name the host of an address without a password, even if the address is malformed."""
    return re.split("[/?#]", endpoint.partition("://")[2] or endpoint)[0].rpartition("@")[2]


def hub_error(message: str) -> HubError:
    """Make an error from a message, without the secrets that the message may quote."""
    return HubError(without_secrets(message))


def without_secrets(text: str) -> str:
    """Take access tokens, and the credentials of addresses, out of a text."""
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if len(token) >= 8:
        text = text.replace(token, "hf_…")
    return TOKEN.sub("hf_…", CREDENTIALS.sub("", text))
