"""All that the page shows of one text, as JSON and as compressed arrays; cut where it would be too large.

A page has a limit of bytes. What always fits is stored first: tokens, lens, source text. The taps' values
then get as many columns as there is room for, so that small models are stored whole; where even a few columns
are too many, only the last tokens are stored, and the page says so.
"""

import json
from typing import TYPE_CHECKING

import numpy as np

from tinystar_np.progress_bar import bar
from tinystar_np.seeing.page.arrays import Arrays
from tinystar_np.seeing.page.attention import add_attention, measured_heads
from tinystar_np.seeing.page.images import add_images, image_rows
from tinystar_np.seeing.page.layers import add_experts, cost_json, state_rows
from tinystar_np.seeing.page.model import model_facts, pictures
from tinystar_np.seeing.page.recurrences import add_mixings, mixings
from tinystar_np.seeing.page.sampler import options_json, sampler_json, steps_of_all
from tinystar_np.seeing.page.taps import add_taps, tap_rows
from tinystar_np.seeing.page.tokens import token_rows, word_rows
from tinystar_np.seeing.page.without import TakenOut, add_taken_out, parts_to_take_out, take_out_all
from tinystar_np.seeing.page.writers import add_writers, writers
from tinystar_np.seeing.shown_tokens import texts_alone

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]

MOST_BYTES = 1_950_000
"""The most bytes of a page, so that it can be sent by mail and opened on a phone."""
COLUMNS = (1 << 20, 4096, 2048, 1024, 512, 384, 256, 192, 160, 128, 112, 96, 80, 64, 48, 32)
"""The widths that are tried, the first that fits is used."""
FEWEST_POSITIONS = 4
LIKELY = 1.3
"""A value takes about a byte: it is compressed by a quarter, and base64 adds a third. More is not tried."""
SHORT = 128
"""A pass over so many tokens takes about as long as reading the weights; one over more in proportion."""
LONG = 300
"""With images in a text of more tokens only what follows the last of them is stored of the activations."""
TOP = 5  # of the likeliest tokens at each layer


def page_data(seen: "Seen", room: int) -> str:
    """Return the page's data as JSON text that may stand in HTML.

    room  how many bytes it may have; even the least data may have more
    """
    page = PageData(seen)
    positions = len(seen.ids) - page.begin
    while True:
        for columns in COLUMNS:
            text = page.try_to_write(len(seen.ids) - positions, columns, room)
            if text is not None:
                return text
        if positions <= FEWEST_POSITIONS:
            return page.written(len(seen.ids) - positions, COLUMNS[-1])
        positions = max(FEWEST_POSITIONS, positions * 2 // 3)


class PageData:
    """What a page shows: all that must be computed is computed once, however often it is written."""

    def __init__(self, seen: "Seen") -> None:
        self.seen = seen
        self.begin = _begin(seen)
        self.taps = tap_rows(seen.recording, self.begin)
        self.lens = seen.logit_lens(min(TOP, seen.model.vocab_size))
        self.writers = writers(seen)
        self.sampler = steps_of_all(seen)
        self.taken_out = self._take_out()
        self.mixings = mixings(seen)
        self.heads = measured_heads(seen)
        self.always: Json = {
            "model": model_facts(seen.model, seen.model_name),
            "pictures": pictures(seen.model, seen.recording, seen.ids, seen.read),
            "prompt_length": seen.prompt_length,
            "opened_at": seen.prompt_length if seen.opened_at is None else seen.opened_at,
            "follow": [int(token) for token in self.lens.tokens],
            "tokens": token_rows(seen),
            "images": image_rows(seen),
            "words": word_rows(seen),
            "sampler": sampler_json(seen, self.sampler),
            "options": options_json(seen.options),
            "state": state_rows(seen),
            "cost": cost_json(seen),
            "vocabulary": self._vocabulary(),
        }

    def _take_out(self) -> list[TakenOut]:
        """Take out the parts that count most, one at a time."""
        if isinstance(self.writers, str):
            return []
        weights = self.seen.model.parameters
        work = weights * max(1, len(self.seen.ids) // SHORT)
        names = parts_to_take_out(self.writers, self.seen.prompt_length, work)
        with bar(weights * len(names), "taking parts out", " weights") as advance:
            return take_out_all(self.seen, names, lambda: advance(weights))

    def _vocabulary(self) -> Json:
        """Return the texts of all tokens that the page may name."""
        ids = {*map(int, np.unique(self.lens.top_ids)), *map(int, self.lens.tokens)}
        if not isinstance(self.writers, str):
            ids |= {each.token for row in self.writers for each in row}
        ids |= {int(id) for each in self.taken_out for id in each.best}
        ids |= {
            candidate.token_id
            for each in self.sampler
            for step in each.steps
            for candidate in (*step.leading, *step.fallen)
        }
        return {str(id): text for id, text in texts_alone(self.seen.tokenizer, ids).items()}

    def try_to_write(self, first: int, columns: int, room: int) -> str | None:
        """Return the data with such columns, or None where they are too many."""
        values = sum(min(tap.rows.shape[-1], columns) for tap in self.taps)
        if values * (len(self.seen.ids) - first) > LIKELY * room:
            return None
        text = self.written(first, columns)
        return text if len(text.encode()) <= room else None

    def written(self, first: int, columns: int) -> str:
        """Write the data: positions from ``first`` on, and at most so many columns of each tap."""
        arrays = Arrays()
        taps = add_taps(arrays, self.taps, first - self.begin, columns)
        arrays.add("lens.ids", self.lens.top_ids[:, first:])
        arrays.add("lens.probabilities", self.lens.top_probabilities[:, first:])
        arrays.add("lens.chosen", self.lens.probabilities[:, first:])
        arrays.add("lens.ranks", self.lens.ranks[:, first:])
        data = self.always | {
            "first": first,
            "left_out": _left_out(len(self.seen.ids), taps, first),
            "taps": taps,
            "attention": add_attention(arrays, self.seen, self.heads, first),
            "images_by_head": add_images(arrays, self.seen, first),
            "writers": add_writers(arrays, self.writers, first),
            "without": add_taken_out(arrays, self.taken_out, first),
            "experts": add_experts(arrays, self.seen, first),
            "recurrences": add_mixings(arrays, self.mixings, first),
            "places": arrays.places,
            "bytes": arrays.text(),
        }
        return json_in_html(json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def _begin(seen: "Seen") -> int:
    """Return the first position of which activations may be stored."""
    if len(seen.ids) <= LONG:
        return 0
    after_images = max((image.span[1] for image in seen.images), default=0)
    return max(0, min(after_images, len(seen.ids) - FEWEST_POSITIONS))


def json_in_html(data: str) -> str:
    """Write JSON so that no part of it means anything to HTML, nor breaks a line of JavaScript."""
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return data


def _left_out(T: int, taps: list[Json], first: int) -> list[str]:
    """Say in sentences what the page has no room for."""
    said = []
    if first:
        said.append(f"values and attention of the first {first} of {T} tokens: too large for one page.")
    shares = [tap["share"] for tap in taps if isinstance(tap["share"], int)]
    if max(shares, default=1) > 1:
        begin = "Single" if said else "single"  # after a sentence, or after "Left out:"
        said.append(
            f"{begin} values of wide activations: up to {max(shares)} neighbours share a column of a "
            "picture. Statistics and the values furthest from 0 are exact."
        )
    return said
