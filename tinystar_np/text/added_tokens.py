"""Added tokens: tokens that are found in a text before it is cut; which there are, and their ids.

Several files list them. A `tokenizer.json` has its own; `tokenizer_config.json` overrules it on how each is
found and whether it is special, names those with a role, and may add further ones. As in transformers 4 and
5:

    <|end|>   in the vocabulary, and stated beside it    has the vocabulary's id and the stated flags
              and has a role or is in a list of special  is special
    <|user|>  stated with an id that no token has        has that id
    <|tool|>  stated without an id, or with a taken one  follows all others
    [PAD]     has a role (pad_token) and no id anywhere  is no token: the model need not have a row for it

transformers gives <|user|> the next id after the vocabulary whatever the file says, which is the same for
files that it wrote itself, and [PAD] too.
"""

from collections.abc import Mapping

from tokenizers import AddedToken

from tinystar_np.text.tokenizer_settings import FLAGS, TokenizerSettings


def resolve_added_tokens(
    settings: TokenizerSettings, vocabulary: Mapping[str, int], present: Mapping[int, AddedToken]
) -> dict[int, AddedToken]:
    """Return the added tokens, with their ids.

    settings    of the files beside the vocabulary
    vocabulary  {token: id}, the present added tokens included
    present     {id: token}: those of the vocabulary's own file

    Returns {id: token}; some ids may be new to the vocabulary.
    """
    ids, taken, found = dict(vocabulary), set(vocabulary.values()), dict(present)
    roles = [token for token in settings.named.values() if token is not None]
    special = {token.content for token in (*roles, *settings.extra)}
    unplaced = []
    for stated_id, token in sorted(settings.added.items()):
        if token.content not in ids and stated_id in taken:
            unplaced.append(token)
            continue
        id = ids.setdefault(token.content, stated_id)
        taken.add(id)
        if settings.added_overrule or id not in found:
            found[id] = token
    placed = {token.content for token in found.values()}
    exist = {token.content for token in (*unplaced, *settings.extra)}
    next_id = max(taken, default=-1) + 1
    seen = set()
    for token in (*unplaced, *roles, *settings.extra):
        form = (token.content, *flags_of(token).values())
        if token.content in placed or form in seen:
            continue
        seen.add(form)  # of several forms of one token the last counts
        if token.content not in ids:
            ids[token.content], next_id = next_id, next_id + 1
        if token.content in vocabulary or token.content in exist:
            found[ids[token.content]] = token
    return {
        id: AddedToken(
            token.content, **flags_of(token) | {"special": token.special or token.content in special}
        )
        for id, token in found.items()
    }


def flags_of(token: AddedToken) -> dict[str, bool]:
    """Return the flags of how a token is found in a text, and whether it is special."""
    return {flag: getattr(token, flag) for flag in FLAGS}
