"""The public functions of generation: ids to ids, text to text, text to a stream of pieces."""

from collections.abc import Generator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from tinystar_np.amounts import counted
from tinystar_np.cache import Cache, SeenImage
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.image_prompt import encode_with_images, read_images
from tinystar_np.generation.language_model import LanguageModel, Progress, check_prompt
from tinystar_np.generation.loop import run
from tinystar_np.generation.messages import check_is_list
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.row import Piece
from tinystar_np.generation.setting_names import takes_sampling
from tinystar_np.models.vision_part import Image, check_images, places_of
from tinystar_np.text import Tokenizer

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource


@overload
def generate_ids(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    *,
    images: Sequence[Image] = (),
    tokenizer: Tokenizer | None = None,
    cache: Cache | None = None,
    **sampling: Unpack[Sampling],
) -> list[int]: ...
@overload
def generate_ids(
    model: LanguageModel,
    prompt_ids: Sequence[Sequence[int]],
    *,
    images: Sequence[Sequence[Image]] = (),
    tokenizer: Tokenizer | None = None,
    **sampling: Unpack[Sampling],
) -> list[list[int]]: ...
@overload
def generate_ids(
    model: LanguageModel,
    prompt_ids: NDArray[np.integer],
    *,
    images: Sequence[Image] | Sequence[Sequence[Image]] = (),
    tokenizer: Tokenizer | None = None,
    cache: Cache | None = None,
    **sampling: Unpack[Sampling],
) -> Any: ...
@takes_sampling
def generate_ids(
    model: LanguageModel,
    prompt_ids: Sequence[int] | Sequence[Sequence[int]] | NDArray[np.integer],
    *,
    images: Sequence[Image] | Sequence[Sequence[Image]] = (),
    tokenizer: Tokenizer | None = None,
    cache: Cache | None = None,
    **sampling: Unpack[Sampling],
) -> list[int] | list[list[int]]:
    """Continue token ids.

    prompt_ids  (T,) ints, or a list of such lists of any lengths, or (B, T)
    images      of the prompt, or for several prompts those of each: what ``processor.prompt`` returned with
                the ids
    tokenizer   needed for ``stop`` texts only
    cache       holds the tokens before a single prompt, such as ``model.load_cache`` returns; all new tokens
                but the last are added to it. Penalties do not count its tokens.
    sampling    see SamplingOptions

    Returns the new ids alone, the end-of-text token included where it was reached: a list of ints, or a list
    of such lists for a list of prompts.
    Raises InputError for an empty prompt or an option out of range, ContextFullError for a prompt too long.
    """
    options = SamplingOptions(**sampling)
    if options.stop and tokenizer is None:
        raise InputError("stop texts can only be found in text: give generate_ids the tokenizer too.")
    try:
        single = len(prompt_ids) == 0 or np.ndim(prompt_ids[0]) == 0
    except (TypeError, ValueError, LookupError):
        raise _no_prompt(prompt_ids) from None
    prompts = [_ids(prompt) for prompt in ([prompt_ids] if single else prompt_ids)]
    check_is_list(images)
    of_each: Sequence[Any] = [images] if single else _of_each(images, len(prompts))
    for its_images in of_each:
        check_images(its_images)
    seen = _read(model, prompts, of_each, cache)
    new_ids: list[list[int]] = [[] for _ in prompts]
    for piece in run(model, prompts, tokenizer if options.stop else None, options, cache, images=seen):
        new_ids[piece.index].append(piece.token_id)
    return new_ids[0] if single else new_ids


@overload
def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    prompt: str,
    *,
    images: Sequence["ImageSource"] = (),
    cache: Cache | None = None,
    **sampling: Unpack[Sampling],
) -> str: ...
@overload
def generate(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    prompt: Sequence[str],
    *,
    images: Sequence[Sequence["ImageSource"]] = (),
    **sampling: Unpack[Sampling],
) -> list[str]: ...
@takes_sampling
def generate(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    prompt: str | Sequence[str],
    *,
    images: Sequence["ImageSource"] | Sequence[Sequence["ImageSource"]] = (),
    cache: Cache | None = None,
    **sampling: Unpack[Sampling],
) -> str | list[str]:
    """Continue a text, or each text of a list.

    prompt    one text, or a list of texts of any lengths; each is continued as if alone
    images    of the text, or for a list of texts those of each: files' names, bytes, PIL images, or arrays
              (H, W, 3). The text has a mark at the place of each (``processor.form.mark``); without any the
              images stand before it.
    cache     holds the tokens before a single prompt, see ``generate_ids``; no bos_token is added then
    sampling  see SamplingOptions

    Returns the new text, without the prompt; a list for a list.
    Raises InputError for an empty prompt or an option out of range, ContextFullError for a prompt too long,
    TokenizerError where the model came without tokenizer files.
    """
    options = SamplingOptions(**sampling)
    given = [prompt] if isinstance(prompt, str) else prompt
    is_list = isinstance(given, Sequence) and not isinstance(given, bytes)
    if not is_list or not all(isinstance(text, str) for text in given):
        raise InputError(f"A prompt must be a str, or a list of them; found {shown(prompt)}")
    of_each = [images] if isinstance(prompt, str) else _of_each(images, len(given))
    prompts, seen = _encode(model, tokenizer, given, cache, of_each)
    texts = ["" for _ in prompts]
    for piece in run(model, prompts, tokenizer, options, cache, images=seen):
        texts[piece.index] += piece.text
    return texts[0] if isinstance(prompt, str) else texts


@takes_sampling
def stream(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    prompt: str,
    *,
    images: Sequence["ImageSource"] = (),
    cache: Cache | None = None,
    progress: Progress | None = None,
    **sampling: Unpack[Sampling],
) -> Generator[Piece, None, None]:
    """Continue a text, token by token.

    prompt    a text
    images    its images, see ``generate``
    cache     holds the tokens before it, see ``generate``
    progress  called with how many tokens of a long prompt have been read, and how many there are
    sampling  see SamplingOptions

    Returns a generator of pieces, one for each token; one may stop iterating at any time. Raises the errors
    of ``generate``, at the call and not only at the first piece.
    """
    options = SamplingOptions(**sampling)
    if not isinstance(prompt, str):
        raise InputError(f"A prompt must be a str; found {shown(prompt)}")
    prompts, seen = _encode(model, tokenizer, [prompt], cache, [images])
    return run(model, prompts, tokenizer, options, cache, progress, seen)


def _encode(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    texts: Sequence[str],
    cache: Cache | None,
    images: Sequence[Any],
) -> tuple[list[list[int]], list[tuple[SeenImage, ...]]]:
    """Cut texts into tokens, and read the images of each."""
    if tokenizer is None:
        raise TokenizerError("This model has no tokenizer files. Use generate_ids, which works on token ids.")
    begins = cache is None or not cache.lengths.any()
    for its_images in images:
        check_is_list(its_images)
    prompts = [
        encode_with_images(model, tokenizer, text, its_images, _name(index, texts), begins)
        for index, (text, its_images) in enumerate(zip(texts, images, strict=True))
    ]
    ids = [prompt.ids for prompt in prompts]
    return ids, _read(model, ids, [prompt.images for prompt in prompts], cache)


def _read(
    model: LanguageModel, prompts: list[list[int]], images: Sequence[Sequence[Image]], cache: Cache | None
) -> list[tuple[SeenImage, ...]]:
    """Read the images of each prompt; raises the errors of all prompts before the first is read."""
    if cache is not None and (len(prompts) != 1 or cache.batch_size != 1):
        raise InputError(
            f"A cache comes before one prompt: {len(prompts)} prompts and a cache of {cache.batch_size} "
            "rows were given."
        )
    held = 0 if cache is None else int(cache.lengths[0])
    for index, (prompt, its_images) in enumerate(zip(prompts, images, strict=True)):
        check_prompt(model, prompt, _name(index, prompts), held, places_of(its_images))
    firsts = accumulate(map(len, images), initial=0)
    return [
        read_images(model, its_images, held, first) for its_images, first in zip(images, firsts, strict=False)
    ]


def _of_each(images: Any, prompts: int) -> Sequence[Any]:
    """Return the images of each of so many prompts; raises InputError unless there is a list for each."""
    if isinstance(images, list | tuple) and not images:
        return [()] * prompts
    if not isinstance(images, list | tuple) or not all(isinstance(each, list | tuple) for each in images):
        found = f"found {shown(images)}"
    elif len(images) != prompts:
        found = f"found {counted(len(images), 'list')}"
    else:
        return images
    raise InputError(
        f'images must be a list with a list for each of the {prompts} prompts, as [["cat.jpg"], []]; {found}'
    )


def _ids(prompt: object) -> list[int]:
    """Convert one prompt's ids to a list of Python ints."""
    try:
        ids = np.asarray(prompt)
    except ValueError:  # lists of different lengths within
        raise _no_prompt(prompt) from None
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise _no_prompt(prompt)
    return [int(id) for id in ids]


def _no_prompt(found: object) -> InputError:
    return InputError(f"A prompt must be a list of token ids, or a list of such lists; found {shown(found)}")


def _name(index: int, prompts: Sequence[object]) -> str:
    return "The prompt" if len(prompts) == 1 else f"Prompt {index}"
