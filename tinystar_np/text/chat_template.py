"""Chat templates: how a model was taught to read a conversation.

A chat model continues text like any other. What makes it answer is the form of the text, that of the
dialogues it was trained on. Every family has its own:

    <|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n          ChatML
    <s>[INST] Hello [/INST]                                              Llama 2

The form comes with the model as a Jinja program, which takes the list of messages and prints the text. It is
a program from strangers: it runs in a sandbox, sees plain data alone, can change none of it, and has a budget
of steps and bytes that no template for chats comes near (template_budget.py).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import read_json_object, shown
from tinystar_np.checkpoints.model_files import MORE_TEMPLATES
from tinystar_np.errors import CheckpointError, InputError, TinyStarError, TokenizerError
from tinystar_np.text.tokenizer_settings import CONFIG_FILE, TokenizerSettings

if TYPE_CHECKING:
    from jinja2 import Template

    from tinystar_np.text.template_budget import Budget

JINJA_FILE = "chat_template.jinja"
OLD_FILE = "chat_template.json"

LONGEST = 100_000  # characters of a template; those of real models have up to 30 000

NO_JINJA = (
    "Chat templates need the package jinja2, 3.1.6 or newer (older ones have holes in their sandbox).\n"
    "Install it: pip install 'jinja2>=3.1.6'"
)

Message = Mapping[str, Any]


class ChatTemplate:
    """Turns a conversation into the text that a model continues with its answer.

    source          the template, or several by their names: a conversation with tools is written by the one
                    named "tool_use", any other by "default"
    special_tokens  {"bos_token": "<s>", …}, which templates print
    path            the file it came from, for messages
    """

    def __init__(
        self, source: str | Mapping[str, str], special_tokens: Mapping[str, str], path: Path
    ) -> None:
        self.sources = {"default": source} if isinstance(source, str) else dict(source)
        self.path = path
        self._special_tokens = dict(special_tokens)
        self._compiled: dict[str, Template] = {}

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        chat_template: str | None = None,
        **variables: Any,
    ) -> str:
        """Write a conversation as text.

        messages               [{"role": "system" | "user" | "assistant", "content": "…"}, …], at least one
        add_generation_prompt  end with what begins an answer
        chat_template          the name of one of the model's templates; None chooses
        variables              what else the template may look at: tools, documents, …

        The template sees all this as it is, but for the keys of a message whose value is None: they are left
        out, because many templates print "None" for them; a content of None is one (NullContent).

        Returns the text. It holds the special tokens already: encode it with ``add_special_tokens=False``.
        Raises InputError where the messages are none or the template refuses them, TokenizerError where the
        template itself is at fault, TinyStarError where jinja2 is missing.
        """
        if not messages or not all(isinstance(message, Mapping) for message in messages):
            raise InputError('A conversation is a list of messages: [{"role": "user", "content": "…"}].')
        given = {"tools": None, "documents": None} | self._special_tokens | _plain(variables)
        for name in ("tools", "documents"):
            _check_dicts(name, given[name])
        compiled = self._compile(chat_template or self._choose(given["tools"]))
        from tinystar_np.text.template_budget import Budget
        from tinystar_np.text.template_functions import NullContent

        plain = [
            {
                key: NullContent() if value is None else value
                for key, value in _plain(message).items()
                if value is not None or key == "content"
            }
            for message in messages
        ]
        given |= {"messages": plain, "add_generation_prompt": add_generation_prompt}
        return self._run(lambda: compiled.render(given), Budget(given))

    def _choose(self, tools: Any) -> str:
        """Choose a template by its name, as transformers does; the only one will do too, if for all."""
        if tools is not None and "tool_use" in self.sources:
            return "tool_use"
        only = len(self.sources) == 1 and "tool_use" not in self.sources
        return next(iter(self.sources)) if only else "default"

    def _compile(self, name: str) -> "Template":
        if name not in self.sources:
            raise InputError(
                f"{self.path}: it has templates named {', '.join(self.sources):.200}, and none is "
                f'named {shown(name)}.\nName one of them: render(messages, chat_template="…").'
            )
        if name not in self._compiled:
            try:
                import jinja2
            except ImportError:
                raise TinyStarError(NO_JINJA) from None
            if tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit()) < (3, 1, 6):
                raise TinyStarError(NO_JINJA)
            from tinystar_np.text.template_budget import Budget
            from tinystar_np.text.template_sandbox import TemplateEnvironment

            source = self.sources[name]
            if len(source) > LONGEST:
                raise self._fault(f"it has {len(source)} characters, and more than {LONGEST} are not read")
            # What is constant is computed when it is compiled.
            self._compiled[name] = self._run(lambda: TemplateEnvironment().from_string(source), Budget())
        return self._compiled[name]

    def _run(self, step: Callable[[], Any], budget: "Budget") -> Any:
        """Compile or render, and turn what can go wrong into our errors."""
        import jinja2

        from tinystar_np.text.template_budget import TooMuchError, spending
        from tinystar_np.text.template_functions import RefusalError

        try:
            return spending(budget, step)
        except RefusalError as error:
            raise InputError(
                f"The model's chat template refuses this conversation: {_shortened(error)}"
            ) from error
        except TooMuchError as error:
            raise self._fault(f"{error}, and was stopped") from error
        except jinja2.TemplateSyntaxError as error:
            raise self._fault(f"line {error.lineno}: {_shortened(error.message)}") from error
        except jinja2.TemplateError as error:
            raise self._fault(_shortened(error.message or type(error).__name__)) from error
        except Exception as error:  # any program can fail in any way
            raise self._fault(f"{type(error).__name__}: {_shortened(error)}") from error

    def _fault(self, problem: str) -> TokenizerError:
        return TokenizerError(
            f"{self.path}: the model's chat template does not work: {problem}.\n"
            "Use the model without it (tinystar ask), or replace the template."
        )


def _shortened(message: Any, most: int = 500) -> str:
    text = str(message)
    return text if len(text) <= most else f"{text[:most]} …"


def _plain(value: Any) -> Any:
    """Copy JSON data; of anything else a template gets the text, not the object."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind, plain in PLAIN.items():  # an Enum's member may be one of them, with a text of its own
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (tuple if isinstance(value, tuple) else list)(map(_plain, value))
    return str(value)


PLAIN: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__}


def _check_dicts(name: str, value: Any) -> None:
    if value is not None and not (
        isinstance(value, list | tuple) and all(isinstance(item, dict) for item in value)
    ):
        raise InputError(f"{name} must be a list of dicts, each as JSON has it; found {shown(value)}")


def load_chat_template(directory: Path, settings: TokenizerSettings) -> ChatTemplate | None:
    """Load the chat template of a model's directory.

    directory  may hold `chat_template.jinja`, more of them under their names in `additional_chat_templates/`,
               or an older file with the template in it
    settings   what `tokenizer_config.json` says

    Returns None where the model has none. Raises TokenizerError where a file is damaged.
    """
    readers: dict[str, Callable[[], Any]] = {
        JINJA_FILE: lambda: _read_templates(directory),
        CONFIG_FILE: lambda: settings.chat_template,
        OLD_FILE: lambda: _read_old(directory),
    }
    for name, read in readers.items():
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


def _read_templates(directory: Path) -> dict[str, str]:
    """Read the templates that have files of their own, by their names."""
    names = {JINJA_FILE: "default"} if (directory / JINJA_FILE).exists() else {}
    names |= {
        f"{MORE_TEMPLATES}/{path.name}": path.stem for path in (directory / MORE_TEMPLATES).glob("*.jinja")
    }
    return {name: _read_template(file_inside(directory, file)) for file, name in names.items()}


def _read_old(directory: Path) -> Any:
    if not (directory / OLD_FILE).exists():
        return None
    return read_json_object(file_inside(directory, OLD_FILE)).get("chat_template")


def _read_template(path: Path) -> str:
    if not path.is_file():
        raise ValueError("it is no file")
    with path.open(encoding="utf-8") as file:
        return file.read(LONGEST + 1)  # one more than may be, which is noticed when it is used


def _by_name(found: Any) -> dict[str, str]:
    """Sort what a file has: one template, or several with names, as a list or as an object."""
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
    sources = found if isinstance(found, dict) else {} if found is None else {"default": found}
    wrong = [
        (name, text)
        for name, text in sources.items()
        if not (isinstance(name, str) and isinstance(text, str))
    ]
    if wrong:
        raise ValueError(f"found {wrong[0][1]!r:.60}, expected the text of a template")
    return sources
