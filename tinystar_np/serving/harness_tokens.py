"""Texts as tokens by the rules of lm-evaluation-harness, which are those of its own model ``hf``.

text                       tokens
begins with bos_token      as it stands: a chat template has written it already
otherwise                  with the special tokens of the tokenizer's files, or as ``add_bos_token`` says
a continuation alone       without special tokens
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.likelihoods import End
from tinystar_np.text import Tokenizer


class HarnessTokens:
    """A tokenizer under the harness's rules.

    tokenizer      the tokenizer
    end_ids        the model's tokens that end a text
    add_bos_token  whether texts begin with bos_token; None for what the tokenizer's files say
    prefix_id      what stands before a text without context; None for bos_token, or else eos_token
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: Sequence[int] = (),
        add_bos_token: bool | None = None,
        prefix_id: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._end_ids, self._add_bos, self._prefix_id = end_ids, add_bos_token, prefix_id

    @property
    def bos_id(self) -> int | None:
        """The id of bos_token, or None where the files name none."""
        name = self.tokenizer.settings.special_tokens.get("bos_token")
        return None if name is None else self.tokenizer.backend.token_to_id(name)

    @property
    def end_id(self) -> int:
        """The token that ends a text: eos_token, or else the model's first."""
        if self.tokenizer.end_id is not None:
            return self.tokenizer.end_id
        if not self._end_ids:
            raise TokenizerError(f"{self.tokenizer.path}: no token ends a text; give prefix_token_id=…")
        return self._end_ids[0]

    @property
    def prefix_id(self) -> int:
        """The token before a text without context."""
        if self._prefix_id is not None:
            return self._prefix_id
        return self.end_id if self.bos_id is None else self.bos_id

    def encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """Cut a text into tokens.

        add_special_tokens  None for the rules above; True also where the text begins with bos_token
        """
        written = text.startswith(self.decode([self.prefix_id], special=True)) or self._add_bos is False
        if add_special_tokens is False or (add_special_tokens is None and written):
            return self.tokenizer.encode(text, add_special_tokens=False)
        ids = self.tokenizer.encode(text)
        if self._add_bos is None or self.bos_id is None or self._add_bos == self._begins_texts:
            return ids
        return [self.bos_id, *ids] if self._add_bos else ids[1:]

    @cached_property
    def _begins_texts(self) -> bool:
        """Whether the tokenizer itself puts bos_token before a text."""
        return self.tokenizer.encode("")[:1] == [self.bos_id]

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """Join tokens to a text.

        special  whether special tokens are part of it
        """
        return self.tokenizer.decode(ids, skip_special_tokens=not special)


def shortened(context: Sequence[int], continuation: Sequence[int], longest: int) -> End:
    """Join a context and its continuation; of a long context only the end is kept.

    longest  how many tokens the model reads; the last one of a continuation it need not

    Raises InputError where either is empty, or the continuation alone is too long.
    """
    if not context or not 1 <= len(continuation) <= longest:
        raise InputError(
            f"A continuation has {len(continuation)} tokens after {len(context)} of context; it must have "
            f"1 to {longest}, and something before it."
        )
    ids = [*context, *continuation][-(longest + 1) :]
    return End(ids, len(ids) - len(continuation))
