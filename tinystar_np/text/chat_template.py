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

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import read_json_object
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
        from tinystar_np.text.template_budget import Budget

        # Copies of plain data, and keys without a value left out: many templates print "None" for them.
        plain = [
            {str(key): _plain(value) for key, value in message.items() if value is not None}
            for message in messages
        ]
        given = {"tools": None, "documents": None} | self._special_tokens | _plain(variables)
        given |= {"messages": plain, "add_generation_prompt": add_generation_prompt}
        return self._run(lambda: compiled.render(given), Budget(given))

    def _compile(self) -> "Template":
        if self._compiled is None:
            try:
                import jinja2
            except ImportError:
                raise TinyStarError(NO_JINJA) from None
            if tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit()) < (3, 1, 6):
                raise TinyStarError(NO_JINJA)
            from tinystar_np.text.template_budget import Budget
            from tinystar_np.text.template_sandbox import TemplateEnvironment

            if len(self.source) > LONGEST:
                raise self._fault(
                    f"it has {len(self.source)} characters, and more than {LONGEST} are not read"
                )
            # What is constant is computed when it is compiled.
            self._compiled = self._run(lambda: TemplateEnvironment().from_string(self.source), Budget())
        return self._compiled

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
        JINJA_FILE: _read_template,
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


def _read_template(path: Path) -> str:
    if not path.is_file():
        raise ValueError("it is no file")
    with path.open(encoding="utf-8") as file:
        return file.read(LONGEST + 1)  # one more than may be, which is noticed when it is used


def _default(found: Any) -> str | None:
    """Choose from what a file has: one template, or several with names, of which the default is for chats."""
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
    if isinstance(found, dict):
        if len(found) > 1 and "default" not in found:
            raise ValueError(
                f"it has templates named {', '.join(map(str, found)):.200}, and none is the default"
            )
        found = found.get("default") or next(iter(found.values()), None)
    if found is None or isinstance(found, str):
        return found
    raise ValueError(f"found {found!r:.60}, expected the text of a template")
