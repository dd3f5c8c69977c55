"""Write docs/model_types.md: every causal language model of transformers, and whether it runs here.

    python docs/tools/model_types.py

The list is that of the transformers that is installed. Run it after adding an architecture; a test says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tinystar_np.models import ARCHITECTURES, VISION_ARCHITECTURES, model_class
from tinystar_np.models.not_yet import NOT_YET
from tinystar_np.models.registry import ALIKE, OLD_SPELLINGS
from tinystar_np.models.text_part import TEXT_PARTS

PAGE = Path(__file__).parents[1] / "model_types.md"
TYPES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def link(model_type: str) -> str:
    """Return a link to what the page of architectures says."""
    return f"[{model_type}](architectures.md#{model_type})"


def status(model_type: str) -> str:
    """Say whether a ``model_type`` runs here, or why not."""
    same = {**OLD_SPELLINGS, **ALIKE}.get(model_type)
    if model_type in ARCHITECTURES:
        return f"**runs**: {link(model_type)}"
    if model_type in VISION_ARCHITECTURES:
        return f"**runs**, images too: {link(model_type)}"
    if same is not None:
        return f"**runs** as {link(same)}"
    if model_type in TEXT_PARTS:
        return f"**its text runs**, as {' or '.join(map(link, TEXT_PARTS[model_type]))}; images are not read"
    nearest, why = NOT_YET.get(model_type, ("none", "nothing is known of it"))
    return f"not yet: {why}; nearest: {nearest}"


def runs(model_type: str) -> bool:
    """Whether a ``model_type`` runs here, if only its text part."""
    return "**" in status(model_type)


def page() -> str:
    """Write the page."""
    return "\n".join([*lines(), ""])


def lines() -> Iterator[str]:
    """Write the page line by line."""
    here = [name for name in TYPES if runs(name)]
    also = sorted(set(ARCHITECTURES) - set(TYPES) - {"tinystar"})
    others = sorted((name, same) for name, same in (OLD_SPELLINGS | ALIKE).items() if name not in TYPES)
    yield "# Every model type"
    yield ""
    yield f"Of the {len(TYPES)} causal language models that transformers knows, {len(here)} run here. The"
    yield "list is written from transformers' own table and from the model files:"
    yield ""
    yield "    python docs/tools/model_types.py"
    yield ""
    yield "`config.json` says a model's type under `model_type`. A type that does not run is refused with the"
    yield "sentence that stands here, and with the nearest that runs."
    yield ""
    yield "Several processes can [share](serving/several_machines.md) whatever runs, by layers or by"
    yield f"heads. Not by heads: {', '.join(not_by_heads())}."
    yield ""
    yield from table(
        ("model_type", "here", "class in transformers"), ((f"`{t}`", status(t), f"`{one(t)}`") for t in TYPES)
    )
    yield ""
    yield "## Beyond transformers' table"
    yield ""
    yield "These run too. transformers has them within other models, or has them no longer or not yet:"
    yield ""
    yield from table(("model_type", "here"), ((f"`{name}`", link(name)) for name in also))
    yield ""
    yield "## Other names"
    yield ""
    yield "What the first files of a model call their type, or a repository's own code does, and what it is:"
    yield ""
    yield from table(("model_type", "runs as"), ((f"`{name}`", link(same)) for name, same in others))


def not_by_heads() -> Iterator[str]:
    """Say which models processes cannot share by heads, and why not."""
    for name in sorted(ARCHITECTURES):
        why = model_class(name).DIVIDES.why_not
        if why:
            yield f"`{name}` ({why.rstrip('.')})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write a table line by line."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def one(model_type: str) -> str:
    """Return the name of transformers' class, or the first of them."""
    named = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    return named if isinstance(named, str) else named[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
