"""Where the documents are that help texts and errors point to: in a checkout files, elsewhere an address."""

from pathlib import Path

HOME = "https://github.com/tinystar-np/tinystar_np"
"""The project's home; pyproject.toml and CITATION.cff have the same."""
CHECKOUT = Path(__file__).parents[1]


def document(name: str) -> str:
    """Return where a document is.

    name  such as "docs/taps.md"
    """
    if (CHECKOUT / "pyproject.toml").is_file() and (CHECKOUT / name).is_file():
        return name
    return f"{HOME}/blob/main/{name}"
