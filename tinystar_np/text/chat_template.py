"""Chat templates: how a model was taught to read a conversation.

A chat model continues text like any other. What makes it answer is the form of the text, that of the
dialogues it was trained on. Every family has its own:

    <|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n          ChatML
    <s>[INST] Hello [/INST]                                              Llama 2

The form comes with the model as a Jinja program, which takes the list of messages and prints the text. It is
a program from strangers: it runs in jinja2's sandbox, sees plain data alone, and can change none of it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import read_json_object
from tinystar_np.errors import CheckpointError, InputError, TinyStarError, TokenizerError
from tinystar_np.text.tokenizer_settings import CONFIG_FILE, TokenizerSettings

if TYPE_CHECKING:
    from jinja2 import Template

JINJA_FILE = "chat_template.jinja"
OLD_FILE = "chat_template.json"

NO_JINJA = (
    "Chat templates need the package jinja2, 3.1.6 or newer (older ones have holes in their sandbox).\n"
    "Install it: pip install 'jinja2>=3.1.6'"
)

Message = Mapping[str, Any]


class ChatTemplate:
    """Turns a conversation into the text that a model continues with its answer.

    source          the template
    special_tokens  {"bos_token": "<s>", …}, which templates print
    path            the file it came from, for messages
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str], path: Path) -> None:
        self.source = source
        self.path = path
        self._special_tokens = dict(special_tokens)
        self._compiled: Template | None = None

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """Write a conversation as text.

        messages               [{"role": "system" | "user" | "assistant", "content": "…"}, …], at least one
        add_generation_prompt  end with what begins an answer
        variables              what else the template may look at: tools, documents, …

        Returns the text. It holds the special tokens already: encode it with ``add_special_tokens=False``.
        Raises InputError where the messages are none or the template refuses them, TokenizerError where the
        template itself is at fault, TinyStarError where jinja2 is missing.
        """
        if not messages or not all(isinstance(message, Mapping) for message in messages):
            raise InputError('A conversation is a list of messages: [{"role": "user", "content": "…"}].')
        compiled = self._compile()
        import jinja2

        # Copies of plain data, and keys without a value left out: many templates print "None" for them.
        plain = [
            {str(key): _plain(value) for key, value in message.items() if value is not None}
            for message in messages
        ]
        given = {"tools": None, "documents": None} | self._special_tokens | _plain(variables)
        try:
            return compiled.render(messages=plain, add_generation_prompt=add_generation_prompt, **given)
        except RefusalError as error:
            raise InputError(f"The model's chat template refuses this conversation: {error}") from error
        except jinja2.TemplateError as error:
            raise self._fault(error.message or type(error).__name__) from error
        except Exception as error:  # any program can fail in any way
            raise self._fault(f"{type(error).__name__}: {error}") from error

    def _compile(self) -> "Template":
        if self._compiled is None:
            try:
                import jinja2
            except ImportError:
                raise TinyStarError(NO_JINJA) from None
            if tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit()) < (3, 1, 6):
                raise TinyStarError(NO_JINJA)
            try:
                self._compiled = _environment().from_string(self.source)
            except jinja2.TemplateSyntaxError as error:
                raise self._fault(f"line {error.lineno}: {error.message}") from error
            except Exception as error:
                raise self._fault(f"{type(error).__name__}: {error}") from error
        return self._compiled

    def _fault(self, problem: str) -> TokenizerError:
        return TokenizerError(
            f"{self.path}: the model's chat template does not work: {problem}.\n"
            "Use the model without it (tinystar ask), or replace the template."
        )


class RefusalError(Exception):
    """A template called raise_exception: the conversation has not the form that it can write."""


def _refuse(message: Any) -> None:
    raise RefusalError(str(message))


def _environment() -> Any:
    """Build the environment that templates are written for: that of transformers."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}` marks answers for training; its content is just printed."""

        tags = {"generation"}  # noqa: RUF012 — jinja2 asks for it in this form

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(
                parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
            )

    class PlainNamespace(Namespace):
        """A namespace that cannot be dressed up as one of Python's own objects."""

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise SecurityError(f"a namespace may not have the attribute {name!r}")
            super().__setitem__(name, value)

    def namespace(*pairs: Any, **attributes: Any) -> PlainNamespace:
        made = PlainNamespace()
        for name, value in dict(*pairs, **attributes).items():
            made[name] = value
        return made

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["namespace"] = namespace
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as it is; jinja2's own filter writes it for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _plain(value: Any) -> Any:
    """Copy JSON data; of anything else a template gets the text, not the object."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def load_chat_template(directory: Path, settings: TokenizerSettings) -> ChatTemplate | None:
    """Load the chat template of a model's directory.

    directory  may hold `chat_template.jinja`, or an older file with the template in it
    settings   what `tokenizer_config.json` says

    Returns None where the model has none. Raises TokenizerError where a file is damaged.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        JINJA_FILE: lambda path: path.read_text(encoding="utf-8"),
        CONFIG_FILE: lambda path: settings.chat_template,
        OLD_FILE: lambda path: read_json_object(path).get("chat_template"),
    }
    for name, read in readers.items():
        if not (directory / name).exists():
            continue
        try:
            source = _default(read(file_inside(directory, name)))
        except CheckpointError as error:
            raise TokenizerError(str(error)) from error
        except (OSError, ValueError) as error:
            raise TokenizerError(
                f"{directory / name}: cannot be read as a chat template: {error}."
            ) from error
        if source is not None:
            return ChatTemplate(source, settings.special_tokens, directory / name)
    return None


def _default(found: Any) -> str | None:
    """Choose from what a file has: one template, or several with names, of which the default is for chats."""
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
    if isinstance(found, dict):
        if len(found) > 1 and "default" not in found:
            raise ValueError(f"it has templates named {', '.join(map(str, found))}, and none is the default")
        found = found.get("default") or next(iter(found.values()), None)
    if found is None or isinstance(found, str):
        return found
    raise ValueError(f"found {found!r:.60}, expected the text of a template")
