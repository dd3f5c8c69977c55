"""Write a page of `tinystar look` whose styles and scripts are links to their files, to work on these.

    python docs/tools/look_page.py page.html [MODEL [PROMPT]]

Opened in a browser, it shows the files of tinystar_np/seeing/page/ as they are: after a change it is loaded
anew, and no model runs.
"""

import sys
from pathlib import Path

import tinystar_np as ts
from tinystar_np.seeing.page.data import MOST_BYTES, page_data
from tinystar_np.seeing.page.file import linked_page

PROMPT = "Once upon a time there was a little"


def write(page: Path, model_name: str = "stories", prompt: str = PROMPT) -> None:
    """Run the model and write the page."""
    seen = ts.look(*ts.load(model_name), prompt, temperature=0.0)
    page.write_text(linked_page(page_data(seen, MOST_BYTES), model_name), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:])
