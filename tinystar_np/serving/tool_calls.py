"""Tool calls: read from an answer while it is generated, where the form of the model's calls is known.

The client names functions; the chat template writes them into the prompt; the model may write a call, in the
form of its family (tool_families.py); and the client gets it in OpenAI's form:

    {"id": "call_…", "type": "function", "function": {"name": "weather", "arguments": "{…}"}}

What is no call is content, and nothing of it is lost: text around calls, calls whose JSON is damaged, marks
that nothing follows. White space around calls alone is left out. A call is not checked against the tools'
schemas: the client must check it in any case.
"""

import re
import secrets
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from tinystar_np.errors import InputError
from tinystar_np.serving.tool_families import ToolFamily, family_of_source, other_form
from tinystar_np.serving.tool_json import Call
from tinystar_np.text import ChatTemplate, TextStream, Tokenizer

THINKING, THOUGHT = "<think>", "</think>"
"""What stands around a model's reasoning. A call within it is not read as one."""
ALPHABET = string.ascii_letters + string.digits

JsonDict = dict[str, object]

PROBE_NAME = "probe_for_tools"
PROBED: JsonDict = {"type": "object", "properties": {"x": {"type": "string", "description": "A text"}}}
PROBE: JsonDict = {
    "type": "function",
    "function": {"name": PROBE_NAME, "description": "A function", "parameters": PROBED},
}
"""A tool that shows whether a template writes tools."""


@dataclass(frozen=True)
class ToolCall:
    """A call: its index in the answer, an id, the function's name, its arguments as a JSON object's text."""

    index: int
    id: str
    name: str
    arguments: str


class Delta(NamedTuple):
    """What is final with a piece of an answer: text to pass on, and complete calls."""

    content: str
    calls: list[ToolCall]


def family_of(template: ChatTemplate | str) -> ToolFamily | None:
    """Return the family whose calls a chat template writes; None where their form is not read here."""
    return family_of_source(template if isinstance(template, str) else _source(template))


@lru_cache(maxsize=16)
def family_for_tools(template: ChatTemplate) -> ToolFamily:
    """Return the family of a template for a conversation with tools.

    Raises InputError where it takes no tools, and where its calls are in a form that is not read here. The
    text of such calls could be passed on as content, but a client that names tools waits for calls, and would
    take the answer to be one without any.
    """
    if not _takes_tools(template):
        raise InputError("This model's chat template takes no tools.")
    family = family_of(template)
    if family is None:
        form = other_form(_source(template))
        problem = "This model's chat template takes tools, but the form of its calls is not known here"
        raise InputError(f"{problem}." if form is None else f"{problem}: {form}.")
    return family


def tool_variables(tools: Sequence[JsonDict]) -> dict[str, Any]:
    """Return the variables under which chat templates look for tools; the second is SmolLM3's."""
    return {"tools": list(tools), "xml_tools": list(tools)}


def _source(template: ChatTemplate) -> str:
    """Return the text of the template that writes a conversation with tools."""
    return template.sources[template.chosen(with_tools=True)]


def _takes_tools(template: ChatTemplate) -> bool:
    """Say whether a template writes the tools that it is given."""
    text = template.render([{"role": "user", "content": "Hello"}], **tool_variables([PROBE]))
    return PROBE_NAME in text


def as_openai(calls: Sequence[ToolCall], stream: bool = False) -> list[JsonDict]:
    """Return calls as OpenAI's interface writes them: of a message, or of a chunk of a stream."""
    return [
        ({"index": call.index} if stream else {})
        | {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


class ToolCallReader:
    """Reads the calls of one answer while it comes; the same ones however it is cut into pieces.

    family     how the model writes calls
    names      of the tools: an answer that is a JSON object without marks is a call only of one of these
    tokenizer  the model's. Marks that are special tokens have no text in the pieces, and are found by their
               ids; None where the text has all
    after      the ids of the prompt; one that ends by <think> is followed by reasoning
    parallel   whether there may be several calls; otherwise the answer ends with the first
    """

    def __init__(
        self,
        family: ToolFamily,
        names: Collection[str] = (),
        tokenizer: Tokenizer | None = None,
        *,
        after: Sequence[int] = (),
        parallel: bool = True,
    ) -> None:
        self._family, self._names, self._parallel = family, frozenset(names), parallel
        self._hidden = None if tokenizer is None else HiddenMarks(family.marks, tokenizer)
        self._openings = _any_of(*family.opening, THINKING)
        self._unread = ""
        thinks = tokenizer is not None and _ends_by_thinking(tokenizer, after)
        self._step = self._thinking if thinks else self._start
        self._mark = ""  # the opening mark of the call that is being read, with the white space before it
        self._content: list[str] = []
        self._new: list[ToolCall] = []
        self._calls = 0

    @property
    def calls(self) -> int:
        """How many calls there are so far. With any, an answer that ended by itself ends by "tool_calls"."""
        return self._calls

    @property
    def done(self) -> bool:
        """Whether nothing that follows counts: there may be one call alone, and it is complete."""
        return not self._parallel and self._calls > 0

    def push(self, text: str, token_id: int | None = None) -> Delta:
        """Take the text of a piece, and its token, and return what is final with it."""
        if self._hidden is not None and token_id is not None:
            text = self._hidden.put_into(text, token_id)
        return self._read(text)

    def flush(self) -> Delta:
        """End the answer: return what was kept back."""
        return self._read("", last=True)

    def _read(self, text: str, last: bool = False) -> Delta:
        self._unread += text
        while not self.done and self._step(last):
            pass
        if self.done:
            self._unread = ""
        delta = Delta("".join(self._content), self._new)
        self._content, self._new = [], []
        return delta

    # Each step reads some of the text that is there, and says whether the next one can be taken at once.

    def _start(self, last: bool) -> bool:
        """Begin the answer, which may be a call without a mark."""
        rest = self._unread.lstrip()
        if not rest and not last:
            return False
        return self._go_on(rest)

    def _go_on(self, rest: str) -> bool:
        """Read a call without a mark, in families that have such, or else text.

        rest  what is unread, without white space before it
        """
        if self._family.bare and rest.startswith("{"):
            self._begin_call(len(self._unread) - len(rest))
        else:
            self._step = self._text
        return True

    def _text(self, last: bool) -> bool:
        """Pass on what stands before a mark."""
        match = self._openings.search(self._unread)
        if match is None:
            kept = 0 if last else _overlap(self._unread, (*self._family.opening, THINKING))
            before = self._unread[: len(self._unread) - kept]
            self._pass_on(len(before if last else before.rstrip()))
            return False
        if match[0] == THINKING:
            self._pass_on(match.end())
            self._step = self._thinking
        else:
            length = len(self._unread[: match.start()].rstrip())
            self._pass_on(length)
            self._begin_call(match.end() - length)
        return True

    def _thinking(self, last: bool) -> bool:
        """Pass on reasoning."""
        end = self._unread.find(THOUGHT)
        if end < 0:
            kept = 0 if last else _overlap(self._unread, (THOUGHT,))
            self._pass_on(len(self._unread) - kept)
            return False
        self._pass_on(end + len(THOUGHT))
        self._step = self._start  # the answer itself begins here
        return True

    def _begin_call(self, length: int) -> None:
        """Begin a call after so many characters, which are its mark and the white space before it."""
        self._mark, self._unread = self._unread[:length], self._unread[length:]
        self._step = self._call

    def _call(self, last: bool) -> bool:
        """Read calls; the text of those that cannot be read is content, in which others may follow."""
        try:
            found = self._family.read(self._unread)
            if found is None and not last:
                return False
            if found is None or not (self._mark.strip() or self._are_known(found.calls)):
                raise ValueError("no call")
        except ValueError:
            self._content.append(self._mark)
            self._step = self._text
            return True
        for call in found.calls if self._parallel else found.calls[:1]:
            self._new.append(ToolCall(self._calls, self._new_id(), call.name, call.arguments))
            self._calls += 1
        self._unread = self._unread[found.end :]
        self._step = self._after_call
        return True

    def _after_call(self, last: bool) -> bool:
        """Leave out what ends a call, and the white space around it."""
        rest = self._unread.lstrip()
        closing = next((mark for mark in self._family.closing if rest.startswith(mark)), None)
        if closing is not None:
            self._unread = rest.removeprefix(closing)
            return True
        if last and not rest:
            self._unread = ""
            return False
        if not last and any(mark.startswith(rest) for mark in self._family.closing):
            return False
        return self._go_on(rest)

    def _pass_on(self, length: int) -> None:
        self._content.append(self._unread[:length])
        self._unread = self._unread[length:]

    def _are_known(self, calls: Sequence[Call]) -> bool:
        return all(call.name in self._names for call in calls)

    def _new_id(self) -> str:
        size = self._family.id_size
        if size is None:
            return f"call_{secrets.token_hex(12)}"
        return "".join(secrets.choice(ALPHABET) for _ in range(size))


class HiddenMarks:
    """Puts marks that are special tokens, and so have no text, into an answer's text at their places.

    marks      their texts
    tokenizer  the model's

    The text of a piece may come later than its token, where a stop string or a character is not yet complete.
    So the text is decoded once more, without stop strings, to know after how many characters a mark stands.
    """

    def __init__(self, marks: Collection[str], tokenizer: Tokenizer) -> None:
        texts = {id: tokenizer.token(id) for id in tokenizer.special_ids}
        self._marks = {id: text for id, text in texts.items() if text in marks}
        self._stream = TextStream(tokenizer)
        self._decoded = self._given = 0  # characters
        self._waiting: list[tuple[int, str]] = []  # marks that the text has not reached

    def put_into(self, text: str, token_id: int) -> str:
        """Return the text of a piece with the marks that stand before, within or after it."""
        if not self._marks:
            return text
        self._decoded += len(self._stream.push(token_id))
        if token_id in self._marks:
            self._waiting.append((self._decoded, self._marks[token_id]))
        parts, start = [], self._given
        self._given += len(text)
        while self._waiting and self._waiting[0][0] <= self._given:
            place, mark = self._waiting.pop(0)
            parts += [text[: place - start], mark]
            text, start = text[place - start :], place
        return "".join([*parts, text])


def _ends_by_thinking(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Say whether a prompt ends by the mark of reasoning, which some templates write for the model."""
    end = tokenizer.decode(ids[-len(THINKING) - 2 :], skip_special_tokens=False)
    return end.rstrip().endswith(THINKING)


def _any_of(*marks: str) -> re.Pattern[str]:
    """Return a pattern that matches any of these texts."""
    return re.compile("|".join(map(re.escape, marks)))


def _overlap(text: str, marks: Sequence[str]) -> int:
    """Return the length of the longest end of a text that is a proper beginning of a mark."""
    longest = min(len(text), max(map(len, marks)) - 1)
    return next(
        (
            size
            for size in range(longest, 0, -1)
            if any(len(mark) > size and mark.startswith(text[-size:]) for mark in marks)
        ),
        0,
    )
