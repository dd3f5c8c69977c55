"""The page as one file: the template, its styles and scripts put in, and the data.

The files in page/ are ordinary ones that a browser opens and an editor edits. Here each is put into the place
where the template names it, so that the page needs no other file and no network.

What comes from a model or a person is data: it stands in one JSON block, in which no ``<`` is left that could
end it, and the scripts write it into the page as text, never as HTML. Should one of them err, the page's own
policy still forbids what could do harm: no script runs but those whose hashes it lists, and nothing is
fetched from anywhere.
"""

import base64
import hashlib
import re
from html import escape
from pathlib import Path

from tinystar_np.errors import InputError
from tinystar_np.whole_file import whole_file

FOLDER = Path(__file__).parent
STYLE = re.compile(r'<link rel="stylesheet" href="([\w./-]+)">')
SCRIPT = re.compile(r'<script src="([\w./-]+)"></script>')
DATA = '<script id="data" type="application/json"></script>'
POLICY = "<!-- policy -->"
TITLE = "<title>tinystar</title>"


def page_text(data: str, title: str, template: str = "page.html") -> str:
    """Return a page.

    data      JSON, without any character that means something to HTML (page/data.json_in_html)
    title     any text, for the browser's tab
    template  the file that names its styles and scripts
    """
    page = (FOLDER / template).read_text(encoding="utf-8")
    styles = [_file(name) for name in STYLE.findall(page)]
    scripts = [_file(name) for name in SCRIPT.findall(page)]
    hashes, looks = (" ".join(map(_hash, each)) for each in (scripts, styles))
    page = STYLE.sub(lambda _: f"<style>{styles.pop(0)}</style>", page)
    page = SCRIPT.sub(lambda _: f"<script>{scripts.pop(0)}</script>", page)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src {looks}; base-uri 'none'; form-action 'none'"
    )
    page = _put(page, POLICY, f'<meta http-equiv="Content-Security-Policy" content="{policy}">')
    page = _put(page, TITLE, f"<title>{escape(title)}</title>")
    return _put(page, DATA, DATA.replace("></", f">{data}</"))


def save_page(page: str, path: Path) -> int:
    """Write a page to a file, and return how many bytes it has.

    Raises InputError where the file cannot be written.
    """
    written = page.encode()
    with whole_file(path, InputError) as file:
        file.write(written)
    return len(written)


def linked_page(data: str, title: str) -> str:
    """Return the page with links to its styles and scripts instead of their text, to work on these.

    Such a page is opened again after each change of a file, without running a model. It has no policy.
    """
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    for pattern in (STYLE, SCRIPT):
        page = pattern.sub(lambda found: found[0].replace(found[1], (FOLDER / found[1]).as_uri()), page)
    page = _put(page, TITLE, f"<title>{escape(title)}</title>")
    return _put(page, DATA, DATA.replace("></", f">{data}</"))


def bare_size() -> int:
    """Return the bytes of a page without data."""
    return len(page_text("", "").encode())


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _put(page: str, place: str, text: str) -> str:
    before, found, after = page.partition(place)
    assert found, f"the template lacks {place}"
    return f"{before}{text}{after}"


def _hash(script: str) -> str:
    """Return the hash by which the policy knows a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
