"""Which GGUF file of a repository is meant: that whose name holds a type, such as Q4_K_M.

Repositories of GGUF files hold the same model many times, rounded to more bits and fewer. What tells the
files apart is in their names, or in that of their folder; a large one comes in several parts:

    SmolLM2-135M-Instruct-Q4_K_M.gguf                           Q4_K_M
    smollm2-135m-instruct.q8_0.gguf                             Q8_0
    UD-Q4_K_XL/Large-UD-Q4_K_XL-00001-of-00003.gguf             UD-Q4_K_XL
    mmproj-F16.gguf                                             for pictures: no model of language

They are asked for as llama.cpp does, owner/repository:Q4_K_M, in upper or lower case. Any part of the name
between dots and dashes does as well, where two files have one type: owner/repository:small-Q4_K_M.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tinystar_np.checkpoints.hub_errors import hub_error
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.checkpoints.model_files import FIRST_OF_SEVERAL, GGUF

USUAL_TYPE = "Q4_K_M"  # llama.cpp's, too, where none is asked for
TYPE = re.compile(
    r"(?:^|(?<=[-._ ]))(?:UD-)?(?:I?Q[1-8](?:_[0-9A-Z]+)*|TQ[0-9]_[0-9]|B?F16|F32|F64|FP16|FP32"
    r"|MXFP4(?:_[0-9A-Z]+)*|NVFP4)(?=$|[-. ])",
    re.IGNORECASE,
)
PART = re.compile(r"-[0-9]{5}-of-([0-9]{5})$")
NO_MODEL = re.compile(r"(^|[-._/])(mmproj|imatrix)([-._]|$)", re.IGNORECASE)
LABEL = re.compile(r"[^/\\:\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")  # what may stand behind the colon
MOST_LISTED = 20


def gguf_names(names: Iterable[str]) -> list[str]:
    """List the GGUF files that are models, in order; of a model in several parts, the first."""
    found = (name for name in names if name.endswith(GGUF) and not NO_MODEL.search(name))
    return sorted(name for name in found if not PART.search(_stem(name)) or FIRST_OF_SEVERAL.fullmatch(name))


def has_gguf_alone(names: Iterable[str]) -> bool:
    """Say whether a repository with files of these names has GGUF models, and no safetensors."""
    names = list(names)
    return bool(gguf_names(names)) and not any(name.endswith(".safetensors") for name in names)


def parts_of(name: str) -> Iterator[str]:
    """Yield the names of all files of a model, from that of the first, which is the first."""
    yield name
    if several := FIRST_OF_SEVERAL.fullmatch(name):
        for number in range(2, int(several[2]) + 1):
            yield f"{several[1]}-{number:05}-of-{several[2]}{GGUF}"


def choose(repository: str, names: Iterable[str], wanted: str | None) -> str:
    """Choose a repository's GGUF file.

    repository  for error messages
    names       of all its files
    wanted      a type, or another part of the file's name; if None, Q4_K_M is taken, or else the only file

    Returns the name of the file, of several parts the first. Raises HubError, which lists the types that
    there are, if no file or more than one is meant.
    """
    models = gguf_names(names)
    if not models:
        raise hub_error(f"{repository} has no GGUF files.\nAsk for it without a type after a colon.")
    found = _meant(models, wanted or USUAL_TYPE)
    if len(found or models) == 1 and (found or wanted is None):
        return (found or models)[0]
    labels = gguf_labels(models)
    if found:
        problem = f"{repository} has {len(found)} GGUF files that are {one_line(wanted or USUAL_TYPE)}"
    elif wanted:
        problem = f"{repository} has no GGUF file that is {one_line(wanted)}"
    else:
        problem = f"{repository} has {len(models)} GGUF files, and none that is {USUAL_TYPE}"
    listed = [one_line(labels[model] or model) for model in found or models]
    there = ", ".join(listed[:MOST_LISTED]) + (", …" if len(listed) > MOST_LISTED else "")
    raise hub_error(f"{problem}.\nAsk for one as {repository}:{listed[0]}. It has {there}.")


def gguf_labels(names: Iterable[str]) -> dict[str, str | None]:
    """Return what to ask for to get each of a repository's GGUF models: its type, or else its name.

    names  of all files of the repository

    Returns None for a model that cannot be told from another.
    """
    types = {model: _type_of(model) for model in gguf_names(names)}
    of_type, of_name = Counter(types.values()), Counter(map(_plain, types))
    labels: dict[str, str | None] = {}
    for model, kind in types.items():
        plain = _plain(model)
        if kind and of_type[kind] == 1 and of_name[kind.casefold()] == (plain == kind.casefold()):
            labels[model] = kind
        else:
            name = PART.sub("", _stem(model)).replace("/", "-")
            labels[model] = name if of_name[plain] == 1 and LABEL.fullmatch(name) else None
    return labels


def _meant(models: list[str], wanted: str) -> list[str]:
    """List the models that are meant: by their whole name, or else by type, or else by a part of the name."""
    wanted = _plain(wanted)
    inside = re.compile(rf"(^|[-._ ]){re.escape(wanted)}($|[-. ])")
    ways: list[Callable[[str], bool]] = [
        lambda model: _plain(model) == wanted,
        lambda model: _type_of(model).casefold() == wanted,
        lambda model: bool(inside.search(_plain(model))),
    ]
    for fits in ways:
        if found := [model for model in models if fits(model)]:
            return found
    return []


def _type_of(model: str) -> str:
    """Return the type that a file's name ends with, or its folder's; "" if they say none."""
    for name in reversed(PART.sub("", _stem(model)).split("/")):
        if found := TYPE.findall(name):
            return str(found[-1]).upper()
    return ""


def _stem(name: str) -> str:
    return name.removesuffix(GGUF)


def _plain(name: str) -> str:
    """Return a name as it is compared: no ending, no number of a part, folders as words before it."""
    return PART.sub("", _stem(name.casefold())).replace("/", "-")
