"""The models of a server, by their names."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from tinystar_np.generation.image_prompt import seeing
from tinystar_np.generation.options import Sampling
from tinystar_np.models import Decoder
from tinystar_np.serving.api_errors import ApiError, wrong
from tinystar_np.serving.engine import Engine
from tinystar_np.serving.token_texts import TokenTexts
from tinystar_np.text import Tokenizer

ROOM = 4096  # new tokens at most, where neither the request nor the model limits them


@dataclass
class Served:
    """A model of a server.

    name       as it was given to the server
    model      the model
    tokenizer  its tokenizer
    engine     what runs it
    most_texts how many texts it may be asked for at once
    context    the most tokens of a text; None for any number
    settings   of generation, where a request says nothing
    created    when it was loaded, in seconds since 1970
    """

    name: str
    model: Decoder
    tokenizer: Tokenizer
    engine: Engine
    most_texts: int
    context: int | None = None
    settings: Sampling = field(default_factory=Sampling)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.texts = TokenTexts(self.tokenizer)

    @property
    def last_part(self) -> str:
        """The last part of its name, as of a path."""
        return PurePath(self.name).name

    def room_after(self, prompt: Sequence[int], wanted: int | None, param: str) -> int:
        """Return how many tokens may follow a prompt.

        wanted  at most so many; None where nobody said how many
        param   the name of the parameter that the prompt came from

        Raises an ApiError for a prompt that is too long.
        """
        if self.context is None:
            return ROOM if wanted is None else wanted
        if len(prompt) > self.context:
            words = f"{param} has {len(prompt)} tokens, but the context holds {self.context}. Shorten it."
            raise wrong(param, words, "context_length_exceeded")
        room = self.context - len(prompt) + 1  # the last token is never read
        return room if wanted is None else min(wanted, room)

    def check_ids(self, ids: Sequence[int], param: str) -> None:
        """Raise an ApiError for ids that are none of the model's."""
        for id in ids:
            if not 0 <= id < self.model.vocab_size:
                raise wrong(
                    param,
                    f"{param} has the id {id}; those of the model are 0 to {self.model.vocab_size - 1}.",
                )


class ServedModels:
    """The models of a server.

    models  at least one
    """

    def __init__(self, models: Sequence[Served]) -> None:
        self.models = list(models)

    def id_of(self, served: Served) -> str:
        """Return the name under which a model is listed: of a path the last part, as its place is private."""
        alone = [each.last_part for each in self.models].count(served.last_part) == 1
        is_path = served.name.count("/") != 1 or served.name.startswith((".", "/", "~"))
        return served.last_part if alone and is_path else served.name

    def find(self, name: str | None) -> Served:
        """Return the model of a name: the one that was given, or its last part; None for the only one.

        Raises an ApiError where there is none.
        """
        if name is None:
            if len(self.models) == 1:
                return self.models[0]
            raise wrong("model", f"model is missing; it must be one of {self._names()}.")
        exact = [each for each in self.models if each.name == name]
        found = exact or [each for each in self.models if each.last_part == name]
        if len(found) != 1:
            words = f"The model {name!r:.80} does not exist here; there is {self._names()}."
            raise ApiError(404, words, param="model", code="model_not_found")
        return found[0]

    def _names(self) -> str:
        return ", ".join(map(self.id_of, self.models))

    def entry(self, served: Served) -> dict[str, Any]:
        """Return what /v1/models says of one; the last three fields are ours, for the page."""
        return {
            "id": self.id_of(served),
            "object": "model",
            "created": served.created,
            "owned_by": "tinystar_np",
            "max_model_len": served.context,
            "context_length": served.context,
            "chat": served.tokenizer.chat_template is not None,
            "sees": seeing(served.tokenizer) is not None and served.model.vision is not None,
        }
