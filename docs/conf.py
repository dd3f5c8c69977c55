"""The book: how Sphinx builds it. `sphinx-build -W -j 2 docs build/book` from the repository's root."""

import os
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from jupyter_client.manager import KernelManager
from sphinx.application import Sphinx

from tinystar_np.documents import HOME

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "tools"))
os.environ["HF_HUB_CACHE"] = "/home/you/.cache/huggingface/hub"  # not this machine's models and user
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched while the book is built
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(HERE.parent), str(HERE / "tools"), os.environ.get("PYTHONPATH")))
)  # of the kernels

if hasattr(KernelManager, "transport_encryption"):  # without it newer kernels warn, once for each chapter
    KernelManager.transport_encryption.default_value = "auto"

project = "tinystar_np"
author = "the tinystar_np developers"
html_title = "tinystar_np"
extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["tools", "_build", "**.ipynb"]  # a chapter opened as a notebook is not a second page

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["find_rows.js"]
html_show_copyright = False
html_theme_options = {
    "source_repository": f"{HOME}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "gfm"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
copybutton_exclude = ".linenos, .gp, .go"
html_copy_source = False


def link_to_the_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to files outside docs/ lead to the repository: `../tinystar_np/…` as seen from the page."""

    def absolute(found: re.Match[str]) -> str:
        there = ((HERE / docname).parent / found[1]).resolve()
        inside = there.is_relative_to(HERE)
        return found[0] if inside else f"]({HOME}/blob/main/{there.relative_to(HERE.parent).as_posix()}"

    source[0] = re.sub(r"\]\((\.\./[^)#]+)", absolute, source[0])


SMALLEST = 0.6
"""A diagram is not drawn smaller than this share of its size, so that its words can be read: it scrolls."""


class Mermaid(Directive):
    """A diagram in Mermaid's language, drawn as SVG at build time."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        import mermaidx

        drawn = mermaidx.render("\n".join(self.content)).svg()
        width = re.search(r'viewBox="\S+ \S+ (\S+) ', drawn)
        least = f"--least: {SMALLEST * float(width[1]):.0f}px" if width else ""
        return [nodes.raw("", f'<div class="mermaid" style="{least}">{drawn}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Say to Sphinx what this file adds."""
    app.connect("source-read", link_to_the_repository)
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
