"""``tinystar inspect --check``: try the tokenizer and the chat template of a model, each in a worker."""

from dataclasses import dataclass
from pathlib import Path

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.text import Tokenizer, load_tokenizer

SAMPLE = "The naïve fox can't jump: 1 234,5 + x = 日本語 😀\n"
MESSAGE = {"role": "user", "content": SAMPLE}


@dataclass(frozen=True)
class CheckedText:
    """What came of trying a tokenizer and its chat template.

    tokenizer  how many tokens it has and cuts a line of text into; None where there are no files
    template   how many characters it writes for a message; None where there is none, or it refused
    lines      the same in words
    error      why one of them does not work
    """

    tokenizer: dict[str, int] | None
    template: int | None
    lines: list[str]
    error: TinyStarError | None = None

    @property
    def facts(self) -> JsonObject:
        """The same for programs."""
        error = {"error": str(self.error)} if self.error else {}
        return {"tokenizer": self.tokenizer, "chat_template": self.template, **error}


def check_text(directory: Path) -> CheckedText:
    """Try the tokenizer and the chat template of a directory."""
    counts, written, lines = None, None, []
    try:
        tokenizer = load_tokenizer(directory, isolated=True)
        if tokenizer is None:
            return CheckedText(None, None, ["no tokenizer files"])
        counts, line = _check_tokens(tokenizer)
        lines.append(line)
        written, line = _check_template(tokenizer)
        lines.append(line)
    except TinyStarError as error:
        return CheckedText(counts, written, lines, error)
    return CheckedText(counts, written, lines)


def _check_tokens(tokenizer: Tokenizer) -> tuple[dict[str, int], str]:
    counts = {"tokens": tokenizer.vocab_size}
    begin = f"{tokenizer.vocab_size:,} tokens; a line of text was"
    try:
        ids = tokenizer.encode(SAMPLE)
    except InputError as error:  # a vocabulary of a few letters
        return counts, f"{begin} refused: {error}"
    tokenizer.decode(ids)
    return {**counts, "ids": len(ids)}, f"{begin} cut into {len(ids)}, and joined again"


def _check_template(tokenizer: Tokenizer) -> tuple[int | None, str]:
    if tokenizer.chat_template is None:
        return None, "no chat template"
    try:
        text = tokenizer.chat_template.render([MESSAGE])
    except InputError as error:  # some want a system message, or tools
        return None, f"chat template: {error}"
    return len(text), f"chat template: a message becomes {len(text)} characters"
