"""Tokens by id and ids by token: what tokenizers that find pieces by rules of their own have in common."""

from collections.abc import Mapping

from tokenizers import AddedToken


class PieceLookup:
    """Those methods of the `tokenizers` package that ``Tokenizer`` uses to ask about a vocabulary.

    ids     {spelling: id}, of which several may be of one token
    tokens  {id: token}
    added   {id: token}: those that are found in a text before it is cut; they go before the others
    """

    def __init__(
        self, ids: Mapping[str, int], tokens: Mapping[int, str], added: Mapping[int, AddedToken]
    ) -> None:
        self._ids = {**ids, **{token.content: id for id, token in added.items()}}
        self._tokens = {**tokens, **{id: token.content for id, token in added.items()}}
        self._added = dict(added)

    def is_special(self, id: int) -> bool:
        """Say whether an id is that of an added token that marks something, and is no text."""
        return id in self._added and self._added[id].special

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id, or None."""
        return self._tokens.get(id)

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        return self._ids.get(token)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Count the tokens."""
        return len(self._tokens)

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return the tokens that are found in a text before it is cut."""
        return self._added
