"""Chat templates: the form of text in which a model was trained to read a conversation.

A chat model continues text like any other. It answers because the text has the form of the dialogues it was
trained on. Every family has its own:

    <|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n          ChatML
    <s>[INST] Hello [/INST]                                              Llama 2

It comes with the model as a Jinja program, which takes the list of messages and prints the text. Here it is
found and given its variables; template.py runs it.
"""

import json
import marshal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.model_files import MORE_TEMPLATES
from tinystar_np.errors import CheckpointError, InputError, TinyStarError, TokenizerError
from tinystar_np.text.tokenizer_settings import CONFIG_FILE, TokenizerSettings, read_beside
from tinystar_np.text.worker import Json, Worker, WorkerError, place_of

JINJA_FILE = "chat_template.jinja"
OLD_FILE = "chat_template.json"
PROCESSOR_FILE = "processor_config.json"

LONGEST = 100_000  # characters of a template; those of real models have up to 30 000

# What a template may take. Real ones take some milliseconds.
SECONDS = 5.0
MEMORY = 1_000_000_000  # bytes, of which Python and jinja2 take 40 MB
SHORTEST, GROWTH = 100_000, 10  # characters of the text, and further ones for each byte of the conversation

END_MARK = "⟦the message goes on⟧ "
"""Put after the content of a message that is to be continued, to find its end in what a template writes. The
space says whether the template trims messages."""

WORKER = Worker(Path(__file__).with_name("template.py"), ["jinja2", "markupsafe"], MEMORY)

NO_JINJA = (
    "Chat templates need the package jinja2, 3.1.6 or newer (older ones have holes in their sandbox).\n"
    "Install it: pip install 'jinja2>=3.1.6'"
)


class ChatTemplate:
    """A template that writes a conversation as the text that a model continues with its answer.

    source          the template, or several by their names: a conversation with tools is written by the one
                    named "tool_use", any other by "default"
    special_tokens  {"bos_token": "<s>", …}, for the template
    path            the file it came from, for messages
    """

    def __init__(
        self, source: str | Mapping[str, str], special_tokens: Mapping[str, str], path: Path
    ) -> None:
        self.sources = {"default": source} if isinstance(source, str) else dict(source)
        self.path = path
        self._special_tokens = dict(special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        add_generation_prompt: bool = True,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        **variables: object,
    ) -> str:
        """Write a conversation as text.

        messages               [{"role": "system" | "user" | "assistant", "content": "…"}, …], at least one
        add_generation_prompt  end with the beginning of an answer
        chat_template          the name of one of the model's templates; None chooses
        continue_final_message end within the last message, so that the model goes on with it; there is no
                               beginning of another answer then
        variables              further variables of the template: tools, documents, …

        The template gets copies. A message's keys whose value is None are left out, because many templates
        print "None" for them; a content of None becomes a NullContent. A call's arguments that are the text
        of a JSON object, as OpenAI's interface has them, become that object: a template that writes them as
        JSON would write a text in quotation marks.

        Returns the text. It holds the special tokens already: encode it with ``add_special_tokens=False``.
        Raises InputError where the messages are invalid or the template refuses them, TokenizerError where
        the template itself fails, TinyStarError where jinja2 is missing.
        """
        if not messages or not all(isinstance(message, Mapping) for message in messages):
            raise InputError('A conversation is a list of messages: [{"role": "user", "content": "…"}].')
        try:
            plain = [_with_arguments(_plain_dict(message)) for message in messages]
            names = {"tools": None, "documents": None} | self._special_tokens | _plain_dict(variables)
        except RecursionError:
            raise InputError("The conversation's lists or dicts are nested too deeply.") from None
        names["add_generation_prompt"] = add_generation_prompt and not continue_final_message
        for name in ("tools", "documents"):
            given = names[name]
            is_list = isinstance(given, list | tuple) and all(isinstance(item, dict) for item in given)
            if given is not None and not is_list:
                raise InputError(f"{name} must be a list of dicts, as JSON has them; found {shown(given)}")
        source = self._source(chat_template or self.chosen(with_tools=names["tools"] is not None))
        if not continue_final_message:
            return self._written(source, plain, names)
        plain[-1], last = _marked(plain[-1])
        return _up_to_mark(self._written(source, plain, names), last)

    def _written(self, source: str, messages: list[dict[str, Json]], names: dict[str, Json]) -> str:
        """Let the worker run a template."""
        most = SHORTEST + GROWTH * len(marshal.dumps((messages, names)))
        try:
            version = WORKER.start()
            if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < (3, 1, 6):
                raise TinyStarError(NO_JINJA)
            answer = WORKER.ask((source, messages, names, most), SECONDS, SHORTEST + 6 * most)
        except WorkerError as error:
            if not place_of("jinja2"):
                raise TinyStarError(NO_JINJA) from error
            raise self._fault(str(error)) from error
        if "refusal" in answer:
            raise InputError(f"The model's chat template refuses this conversation: {answer['refusal']}")
        if "fault" in answer:
            raise self._fault(answer["fault"])
        return str(answer["text"])

    def chosen(self, with_tools: bool = False) -> str:
        """Return the name of the template that writes a conversation, as transformers chooses it."""
        if with_tools and "tool_use" in self.sources:
            return "tool_use"
        only = len(self.sources) == 1 and "tool_use" not in self.sources
        return next(iter(self.sources)) if only else "default"

    def _source(self, name: str) -> str:
        if name not in self.sources:
            raise InputError(
                f"{self.path}: it has templates named {', '.join(self.sources):.200}, and none is "
                f'named {shown(name)}.\nName one of them: render(messages, chat_template="…").'
            )
        source = self.sources[name]
        if len(source) > LONGEST:
            raise self._fault(f"it has {len(source)} characters, and more than {LONGEST} are not read")
        return source

    def _fault(self, problem: str) -> TokenizerError:
        return TokenizerError(
            f"{self.path}: the model's chat template does not work: {problem}.\n"
            "Use the model without it (tinystar ask), or replace the template."
        )


def _with_arguments(message: dict[str, Json]) -> dict[str, Json]:
    """Replace the arguments of a message's calls by the objects that they stand for."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list | tuple):
        return message
    return {**message, "tool_calls": [_call_with_arguments(call) for call in calls]}


def _call_with_arguments(call: Json) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        return call
    given = function.get("arguments")
    if not isinstance(given, str):
        return call
    try:
        arguments = json.loads(given) if given.strip() else {}
    except ValueError:
        return call  # a text that is no JSON stays a text
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _marked(message: dict[str, Json]) -> tuple[dict[str, Json], str]:
    """Put the mark after the last text of a message: its content, or the last part of that which is text.

    Returns the message and that text.
    """
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": content + END_MARK}, content
    parts = list(content) if isinstance(content, list | tuple) else []
    for i in reversed(range(len(parts))):
        part = parts[i]
        if isinstance(part, dict) and isinstance(text := part.get("text"), str):
            parts[i] = {**part, "text": text + END_MARK}
            return {**message, "content": parts}, text
    raise InputError(f"The last message has no text that could be continued; its content is {shown(content)}")


def _up_to_mark(text: str, last: str) -> str:
    """Cut a written conversation where the content of its last message ends.

    last  the content
    """
    end = text.rfind(END_MARK.strip())
    if end < 0 or last.strip() not in text:
        raise InputError(
            "The last message cannot be continued: the model's chat template does not write its whole text."
        )
    # A template that trims messages has removed the space after the mark. Then it would have removed that
    # before the mark, too.
    return text[:end] if text.startswith(END_MARK, end) else text[:end].rstrip()


def _plain(value: object) -> Json:
    """Copy JSON data; anything else is given to a template as its text, not as the object."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # a member of an Enum may be one, with a text of its own
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return list(map(_plain, value))
    return str(value)


def _plain_dict(value: Mapping[str, object]) -> dict[str, Json]:
    return {str(key): _plain(item) for key, item in value.items()}


def load_chat_template(
    tokenizer: Path, settings: TokenizerSettings, sees: bool = False
) -> ChatTemplate | None:
    """Load the chat template of a model.

    tokenizer  the tokenizer's file. Its directory may hold `chat_template.jinja`, more of them under their
               names in `additional_chat_templates/`, or an older file with the template in it
    settings   what `tokenizer_config.json` says, or a file that holds everything
    sees       whether the model also takes images: then the template of its processor comes first, since that
               of the tokenizer is often from the model of text that it was made of, and knows no images

    Returns None where the model has none. Raises TokenizerError where a file is damaged.
    """
    directory = tokenizer.parent
    places: dict[str, Callable[[], object]] = {
        JINJA_FILE: lambda: _template_files(directory),
        CONFIG_FILE: lambda: settings.chat_template,
        OLD_FILE: partial(_named_in, directory, OLD_FILE),
    }
    if sees:
        of_processor = {name: partial(_named_in, directory, name) for name in (PROCESSOR_FILE, OLD_FILE)}
        places = of_processor | places
    if settings.complete:
        places = {tokenizer.name: lambda: settings.chat_template}
    for name, read in places.items():
        try:
            sources = _by_name(read())
        except CheckpointError as error:
            raise TokenizerError(str(error)) from error
        except (OSError, ValueError) as error:
            raise TokenizerError(
                f"{directory / name}: cannot be read as a chat template: {error}."
            ) from error
        if sources:
            return ChatTemplate(sources, settings.special_tokens, directory / name)
    return None


def _named_in(directory: Path, name: str) -> object:
    """Return what one of a directory's JSON files says of the template."""
    return read_beside(directory, name).get("chat_template")


def _template_files(directory: Path) -> dict[str, str]:
    """Read the templates that have files of their own, by their names."""
    names = {JINJA_FILE: "default"} if (directory / JINJA_FILE).exists() else {}
    more = (directory / MORE_TEMPLATES).glob("*.jinja")
    names |= {f"{MORE_TEMPLATES}/{path.name}": path.stem for path in more}
    sources = {}
    for file, name in names.items():
        with file_inside(directory, file).open(encoding="utf-8") as text:
            sources[name] = text.read(LONGEST + 1)  # one more than allowed: refused when it is used
    return sources


def _by_name(found: object) -> dict[str, str]:
    """Return {name: template} of a file's value: one template, or several as a list or as an object."""
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
    found = found if isinstance(found, dict) else {} if found is None else {"default": found}
    sources = {}
    for name, text in found.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            raise ValueError(f"found {text!r:.60}, expected the text of a template")
        sources[name] = text
    return sources
