"""Which axis of a tap is which: the letters of its shape, by the table in tap_facts.py.

Most taps are (B, T, …), but attention's queries, scores and means are (B, H, T, …): whoever wants a head or a
position of an array must know which of its axes that is.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.documents import document
from tinystar_np.errors import InputError
from tinystar_np.seeing import tap_facts
from tinystar_np.seeing.tap_facts import Facts, facts_of

TABLES: tuple[Facts, ...] = (
    tap_facts.AROUND,
    tap_facts.STREAM,
    tap_facts.ATTENTION,
    tap_facts.LATENT_ATTENTION,
    tap_facts.COMPRESSED_QUERIES,
    tap_facts.COMPRESSED_ATTENTION,
    tap_facts.FEED_FORWARD,
    tap_facts.LAUREL,
    tap_facts.PER_LAYER,
    tap_facts.PATCHES,
    tap_facts.MAMBA2,
    tap_facts.DELTA_NET,
    tap_facts.SPLIT_DELTA_NET,
    tap_facts.LIGHTNING,
    tap_facts.MAMBA1,
    tap_facts.MAMBA1_HEADS,
    tap_facts.MLSTM,
    tap_facts.RG_LRU,
    tap_facts.SHORT_CONVOLUTION,
    tap_facts.TIME_MIXING,
    tap_facts.IMAGES,
    tap_facts.POOLED,
)
TAPS = document("docs/taps.md")
HEADS = ("H", "G")
"""Letters of axes that count heads: of queries, of keys and values, or groups of a recurrence's heads."""
WITHIN = r"(?:blocks\.\d+|merger|deep\.\d+|adapter|pooling|projector)\."
ENCODERS = r"(?:images\.\d+|image|text)\.(?:encoder\.)?"
PREFIX = re.compile(rf"(?:{ENCODERS})?(?:{WITHIN})?")
"""What stands before a tap's name: in which encoder it is, and in which block or other part of several."""
OF_IMAGES = ("images.", "image.", "text.")


def name_of(path: str) -> tuple[str, str]:
    """Divide a path into what stands before a tap's name, and the name.

    "blocks.3.attention.q" is "blocks.3." and "attention.q"; "images.0.encoder.blocks.3.attention.q" is
    "images.0.encoder.blocks.3." and "attention.q"; there is nothing before "logits".
    """
    found = PREFIX.match(path)
    if found is None or any(path in facts for facts in TABLES):
        return "", path
    return found.group(), path[found.end() :]


def axes_of(path: str, ndim: int, offered: Collection[str] = ()) -> tuple[str, ...]:
    """Return the letters of a tap's axes, such as ("B", "H", "T", "K").

    path     the tap's
    ndim     how many axes its array has: some names stand for different things in different layers
    offered  paths of other taps of the model, by which layers are told apart

    Raises InputError for a tap that the table does not have.
    """
    prefix, name = name_of(path)
    beside = {other.removeprefix(prefix) for other in offered if other.startswith(prefix)}
    for facts in (facts_of({*beside, name}), *TABLES):
        if name in facts:
            letters = tuple(facts[name][0].strip("()").split(", "))
            if len(letters) == ndim - 1 and "T" in letters and prefix.startswith(OF_IMAGES):
                letters = tuple(chain.from_iterable("hw" if axis == "T" else axis for axis in letters))
            if len(letters) == ndim:
                return letters
    raise InputError(f"{path}, an array with {ndim} axes, is no tap whose axes are known. See {TAPS}.")


def with_heads(path: str) -> list[str]:
    """Return the names of the taps of the same layer that have an axis of heads."""
    layer = name_of(path)[1].split(".")[0] + "."
    found = chain.from_iterable(facts.items() for facts in TABLES)
    by_head = [name for name, (shape, _) in found if {*shape.strip("()").split(", ")} & {*HEADS}]
    return list(dict.fromkeys(name for name in by_head if name.startswith(layer)))


def check_pattern(pattern: object) -> str:
    """Return a pattern of paths that some model may have; raises InputError for others, with near names."""
    if not isinstance(pattern, str):
        raise InputError(f"A tap is chosen by a str such as 'blocks.3.residual'; found {shown(pattern)}")
    names = list(dict.fromkeys(chain.from_iterable(TABLES)))
    of_images = {*tap_facts.IMAGES}
    within = [name for name in names if name not in tap_facts.AROUND and name not in of_images]
    given = [int(digits) for digits in re.findall(r"\d+", pattern)]
    blocks = (f"blocks.{i}.{name}" for i in (*given, *range(100)) for name in within)
    in_images = _paths_in_images(given, names)  # thousands: made only if no other path fits
    if not any(fnmatchcase(path, pattern) for path in chain(tap_facts.AROUND, blocks, in_images)):
        first = given[0] if given else 0
        ours = [*tap_facts.AROUND, *(f"blocks.{first}.{name}" for name in within)]
        if pattern.startswith(OF_IMAGES):
            ours += _paths_in_images(given, names)
        near = near_paths(pattern, ours)
        raise InputError(f"No model has a tap {shown(pattern)}.{near} {TAPS} lists them.")
    return pattern


def _paths_in_images(numbers: Sequence[int], names: Collection[str]) -> Iterator[str]:
    """Yield the paths of taps of images, in the first image and block and in those of a pattern's numbers."""
    yield from map("{}.vectors".format, ("text", "image"))
    for image, block in {(0, 0), (numbers[0], numbers[-1]) if numbers else (0, 0)}:
        for prefix in _prefixes(image, block):
            yield from (prefix + name for name in names)


def _prefixes(image: int, block: int) -> list[str]:
    """Return what stands before taps of an image, and of encoders by themselves, as PREFIX finds it."""
    encoders = (f"images.{image}.", f"images.{image}.encoder.", "image.encoder.", "text.")
    parts = ("", f"blocks.{block}.", "merger.", f"deep.{block}.", "adapter.", "pooling.", "projector.")
    return [encoder + part for encoder in encoders for part in parts]


def never_reached(pattern: str, offered: Collection[str]) -> InputError:
    """Return the error for a pattern that matched none of the taps that came, ``offered``."""
    if not offered:
        return InputError(
            f"{pattern} was never reached: no model ran inside the block. Call it there, in the same "
            "thread; what stream returns must be used up there, too."
        )
    near = near_paths(pattern, offered)
    return InputError(f"{pattern} was never reached: the model that ran has no such tap.{near}")


def near_paths(pattern: str, paths: Collection[str]) -> str:
    """Say which of the paths look most like a pattern: a sentence after a space, or nothing."""
    wanted = pattern.replace("*", "0")
    begun = [path for path in paths if path.startswith(wanted[:-1])]  # an abbreviation, a plural
    near = list(dict.fromkeys([*begun, *get_close_matches(wanted, paths, n=3, cutoff=0.5)]))[:3]
    return f" Near it: {', '.join(near)}." if near else ""
