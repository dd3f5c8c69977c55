"""Looking at a model at work: it writes a few tokens, and everything that happened within is kept to be seen.

seen = ts.look(model, tokenizer, "The cat sat on the", max_new_tokens=12)
seen                          # in a notebook: the page
seen.save("page.html")        # the same as one file
seen.attention(3)             # and every number as an array
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from secrets import randbits
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import SeenImage
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.generation.language_model import check_prompt, room_after
from tinystar_np.generation.loop import generated
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.row import Row
from tinystar_np.generation.setting_names import takes_sampling
from tinystar_np.models import Decoder
from tinystar_np.progress_bar import bar
from tinystar_np.seeing.attribution import attribute
from tinystar_np.seeing.cost import Times, block_times
from tinystar_np.seeing.images import ImageInText, LookedAt, read_prompt_with_images
from tinystar_np.seeing.lens import Lens, checked_position, read_lens
from tinystar_np.seeing.parts import Attribution
from tinystar_np.seeing.recorder import Recording, record
from tinystar_np.seeing.recurrence import mixing_matrix
from tinystar_np.text import Tokenizer

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource

NEW_TOKENS = 12
NOTEBOOK_HEIGHT = 900  # pixels
LONG, SCORES = 300, ("blocks.*.attention.scores",)
"""In a text of more tokens attention's scores are not kept: they would take as much memory as the weights
that are made of them, and with an image that is a gigabyte or more."""


@dataclass(frozen=True)
class Seen:
    """What happened while a model wrote a text.

    model          the model
    tokenizer      its tokenizer, or None where it has none
    ids            the prompt's tokens and the new ones
    prompt_length  how many of them are the prompt's
    options        how the new ones were chosen
    recording      every tap of one pass over all ids, with the batch axis: B = 1
    times          how long each part took while the tokens were written: the first pass read the prompt
    prompt         its text, where it was given as one and holds no image
    model_name     a name for headings
    images         those in the prompt
    read           the same, as the model reads them: ``model(ids, images=seen.read)``
    opened_at      the token that the page shows at first; None for the first that was written
    """

    model: Decoder
    tokenizer: Tokenizer | None
    ids: tuple[int, ...]
    prompt_length: int
    options: SamplingOptions
    recording: Recording
    times: Times
    prompt: str | None = None
    model_name: str = ""
    images: tuple[ImageInText, ...] = ()
    read: tuple[SeenImage, ...] = ()
    opened_at: int | None = None

    @cached_property
    def _lenses(self) -> dict[int, Lens]:
        return {}

    @cached_property
    def followed(self) -> NDArray[np.int64]:
        """(T,): for each position the token that came next; for the last one the likeliest."""
        last = int(self.recording["logits"][0, -1].argmax())
        return np.array([*self.ids[1:], last])

    def logit_lens(self, top: int = 5) -> Lens:
        """Return what the model would say after each layer: the likeliest tokens, and the one that came next.

        It is computed once for each ``top``.
        """
        if top not in self._lenses:
            self._lenses[top] = read_lens(self.model, self.recording, tokens=self.followed, top=top)
        return self._lenses[top]

    def attention(self, layer: int) -> NDArray:
        """Return the attention weights of a layer: (H, T, S).

        Raises InputError for a layer that there is not, or that has no attention.
        """
        path = f"blocks.{self.checked_layer(layer)}.attention.probabilities"
        if path not in self.recording:
            raise InputError(f"Layer {layer} has no attention.")
        return self.recording[path][0]

    def attributions(self, position: int, token: int | None = None, other: int | None = None) -> Attribution:
        """Return the parts that a logit at a position is the sum of.

        position  whose next token it is about; from the end where negative
        token     its id; None for the token that came next
        other     a token whose logit is subtracted; None for nothing

        Raises InputError for a position or an id outside, and for a model whose logits are no such sums.
        """
        chosen = int(self.followed[checked_position(position, len(self.ids))]) if token is None else token
        return attribute(self.model, self.recording, position, chosen, other)

    def recurrence(self, layer: int) -> NDArray:
        """Return what each token takes from each earlier one in a recurrence: (H, T, T).

        Raises InputError for a layer that there is not, or that has no recurrence.
        """
        return mixing_matrix(self.model, self.recording, self.checked_layer(layer))

    def checked_layer(self, layer: int) -> int:
        """Return the layer, counted from the beginning; raises InputError where there is none."""
        layers = len(self.model.blocks)
        if not isinstance(layer, int | np.integer) or not -layers <= layer < layers:
            raise InputError(f"layer {shown(layer)} is outside the model, 0 to {layers - 1}.")
        return layer % layers

    def page(self) -> str:
        """Return the page: one HTML file that needs no other, and no network."""
        from tinystar_np.seeing.page.data import MOST_BYTES, page_data
        from tinystar_np.seeing.page.file import bare_size, page_text

        return page_text(page_data(self, MOST_BYTES - bare_size()), self._title())

    def save(self, path: str | Path) -> None:
        """Write the page to a file.

        Raises InputError where the file cannot be written.
        """
        from tinystar_np.seeing.page.file import save_page

        save_page(self.page(), Path(path))

    def _title(self) -> str:
        name = self.model_name or type(self.model).__name__
        return f"{name}: {len(self.ids)} tokens seen"

    def __repr__(self) -> str:
        return f"<Seen: {self._title()}, {self.prompt_length} of them the prompt's>"

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own: its styles and keys do not mix with others'."""
        page = html.escape(self.page(), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="{html.escape(self._title())}" '
            f'style="width:100%;height:{NOTEBOOK_HEIGHT}px;border:0"></iframe>'
        )


@partial(takes_sampling, max_new_tokens=NEW_TOKENS)
def look(
    model: Decoder,
    tokenizer: Tokenizer | None,
    prompt: str | Sequence[int],
    images: Sequence["ImageSource"] = (),
    chat: bool = False,
    **sampling: Unpack[Sampling],
) -> Seen:
    """Continue a prompt, and keep everything that happens on the way.

    prompt    a text; or token ids, which need no tokenizer
    images    those of the text: files' names, bytes, PIL images, or arrays (H, W, 3); the tokenizer is then
              the model's processor
    chat      whether the prompt is a message to answer, to be written by the model's chat template: models
              that see were taught to answer questions about images
    sampling  see SamplingOptions; max_new_tokens is 12 where it is not given, and 0 looks at the prompt alone

    The tokens are read once more in one pass, without a cache, whose every intermediate is recorded, but for
    attention's scores in texts of more than 300 tokens: memory grows with the square of their number where
    there is attention.

    Raises InputError for an empty prompt, an option out of range, or images that cannot be read,
    ContextFullError for a prompt too long, TokenizerError for a text where there is no tokenizer, or no chat
    template.
    """
    settings: Sampling = {"max_new_tokens": NEW_TOKENS, **sampling}
    if settings.get("temperature") != 0 and settings.get("seed") is None:
        settings["seed"] = randbits(32)  # so that the same random numbers can be drawn again, to be shown
    options = SamplingOptions(**settings)
    asked = _asked(model, tokenizer, prompt, images, chat)
    ids = asked.ids
    check_prompt(model, ids)
    room = room_after(model, ids, None)
    ends = () if tokenizer is None or not chat or tokenizer.end_id is None else (tokenizer.end_id,)
    end_ids = (*model.end_ids, *ends)
    passes = options.max_new_tokens + 1
    with bar(model.parameters * passes, "looking", " weights") as advance:
        whole = [*ids]
        row = Row(0, ids, tokenizer if options.stops else None, options, end_ids, room)
        with block_times() as times:
            for piece in generated(model, row, ids, None, options, images=asked.read):
                whole.append(piece.token_id)
                advance(model.parameters)
        whole = whole[: model.context_length]  # the last token may have no position
        recording = _recorded(model, whole, asked.read)
    text = prompt if isinstance(prompt, str) and not (chat or asked.images) else None
    seen = Seen(model, tokenizer, tuple(whole), len(ids), options, recording, times, text)
    return replace(seen, images=asked.images, read=asked.read)


def look_again(
    model: Decoder,
    tokenizer: Tokenizer | None,
    ids: Sequence[int],
    prompt_length: int,
    options: SamplingOptions,
    model_name: str = "",
) -> Seen:
    """Look at a text that is written already: it is read once, and everything that happens is kept.

    ids            the prompt's tokens and the new ones
    prompt_length  how many of them are the prompt's
    options        how the new ones were chosen; with a temperature and no seed, how each was drawn is unknown
    model_name     a name for headings

    Raises InputError where there are no ids, or ids outside the vocabulary, ContextFullError for too many.
    """
    check_prompt(model, list(ids))
    recording = _recorded(model, ids)
    return Seen(model, tokenizer, tuple(ids), prompt_length, options, recording, Times(), None, model_name)


def _recorded(model: Decoder, ids: Sequence[int], images: tuple[SeenImage, ...] = ()) -> Recording:
    """Record one pass over a text."""
    with record(leave_out=SCORES if len(ids) > LONG else ()) as recording:
        model(np.array(ids), images=images)
    return recording


def _asked(
    model: Decoder,
    tokenizer: Tokenizer | None,
    prompt: str | Sequence[int],
    images: Sequence["ImageSource"],
    chat: bool,
) -> LookedAt:
    """Encode a prompt, which may be ids already, and read its images."""
    if isinstance(prompt, str):
        return read_prompt_with_images(model, tokenizer, prompt, images, chat)
    if len(images) or chat:
        raise InputError("images and chat are for a prompt that is a text; found token ids.")
    ids = np.asarray(prompt)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise InputError(f"A prompt must be a text or a list of token ids; found {shown(prompt)}")
    return LookedAt([int(id) for id in ids])
