"""What the page says of the model: its sizes, the picture of each kind of block, and the source it runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from numpy.typing import NDArray

from tinystar_np.cache import SeenImage
from tinystar_np.inspection.describe import describe_model
from tinystar_np.models import Decoder
from tinystar_np.models.facts import docstring
from tinystar_np.seeing.flow import STREAM, Node, block_flow
from tinystar_np.seeing.origins import Origin, tap_origins
from tinystar_np.seeing.source_text import source_of
from tinystar_np.seeing.tap_facts import facts_of

Json = dict[str, object]


def model_facts(model: Decoder, name: str) -> Json:
    """Return name, architecture, sizes and a line about each layer."""
    model_type = type(model).__module__.rpartition(".")[2]
    described = describe_model(model)
    return {
        "name": name or model_type,
        "architecture": model_type,
        "about": _headline(docstring(model_type)),
        "parameters": model.parameters,
        "sizes": {letter: int(size) for letter, size in model.config.sizes.items()},
        "vocabulary": model.vocab_size,
        "layers": [
            {role: part.words for role, part in layer.items() if role in ("block", "mixer", "positions")}
            for layer in described.layers
        ],
    }


def _headline(text: str) -> str:
    """Return a model file's first sentence without its sources: "GPT-2: the decoder that others …"."""
    return re.sub(r" \([^)]*\)", "", " ".join(text.partition("\n\n")[0].split())).rstrip(".")


def pictures(
    model: Decoder, recording: Mapping[str, NDArray], ids: Sequence[int], images: Sequence[SeenImage] = ()
) -> Json:
    """Return the picture of each kind of block, which layers have it, and the source text behind it.

    recording  of all taps
    images     those of the text, read by the model
    """
    origins = tap_origins(model, ids, images)
    sources: Json = {}
    kinds: list[list[Json]] = []
    kind_of: list[int] = []
    for i in range(len(model.blocks)):
        prefix = f"blocks.{i}."
        taps = {path.removeprefix(prefix): x for path, x in recording.items() if path.startswith(prefix)}
        nodes = _drawn(block_flow(taps), taps, {n: origins[prefix + n] for n in taps}, sources)
        if nodes not in kinds:
            kinds.append(nodes)
        kind_of.append(kinds.index(nodes))
    around = {path: x for path, x in recording.items() if not path.startswith("blocks.")}
    ends = [Node(path, (), "") for path in around]
    return {
        "kinds": kinds,
        "kind_of": kind_of,
        "around": _drawn(ends, around, {n: origins[n] for n in around}, sources),
        "sources": sources,
        "stream": STREAM,
    }


def _drawn(
    nodes: Sequence[Node], taps: Mapping[str, NDArray], origins: Mapping[str, Origin], sources: Json
) -> list[Json]:
    """Return nodes with shapes, words and origins; the source text that they name is added to ``sources``."""
    facts = facts_of(taps)
    drawn: list[Json] = []
    for node in nodes:
        letters, words = facts.get(node.name, ("", ""))
        origin = origins[node.name]
        kernels = [_kernel(each) for each in origin.kernels]
        drawn.append(
            {
                "name": node.name,
                "reads": list(node.reads),
                "part": node.part,
                "letters": letters,
                "shape": list(taps[node.name].shape),
                "words": words,
                "line": origin.line,
                "source": _kept(origin.file, origin.function, sources),
                "kernels": [_kept(file, name, sources) for file, name in kernels],
            }
        )
    return drawn


def _kernel(name: str) -> tuple[str, str]:
    """Return the file of a kernel and its name in it: "norms.rms_norm" → ("kernels/norms.py", "rms_norm")."""
    module, _, function = name.partition(".")
    return f"kernels/{module}.py", function


def _kept(file: str, name: str, sources: Json) -> str:
    """Keep the source text of a function, and return the key under which the page finds it."""
    key = f"{file}:{name}"
    if key not in sources:
        sources[key] = asdict(source_of(file, name))
    return key
