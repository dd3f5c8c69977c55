"""The commands of a conversation: /help and the others."""

import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tinystar_np.cli.chat_history import OFF, SETTING, history_file
from tinystar_np.cli.chat_paths import completions_of, path_of
from tinystar_np.cli.chat_session import Session
from tinystar_np.cli.chat_settings import KEYS, in_words, setting, whole_number
from tinystar_np.cli.chat_texts import edited, read_file
from tinystar_np.cli.nearest import did_you_mean
from tinystar_np.cli.open_model import model_settings
from tinystar_np.cli.streams import tell
from tinystar_np.cli.terminal import note
from tinystar_np.cli.visible import visible
from tinystar_np.cli.wording import wrapped
from tinystar_np.errors import InputError
from tinystar_np.generation.image_prompt import no_images, seeing
from tinystar_np.generation.messages import text_of
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.saved_conversation import read_conversation, resume, save_conversation
from tinystar_np.text import Tokenizer

WITH_CACHE = " --cache"
MOST_SHOWN = 300  # characters of a message that is quoted


class Command(NamedTuple):
    """A command: what follows its name, what it does in words, and the function that does it.

    The function returns whether the conversation goes on.
    """

    takes: str
    words: str
    run: Callable[["Commands", str], bool]


class Commands:
    """The commands on one session.

    session    the session
    tokenizer  the model's, whose files may recommend settings
    """

    def __init__(self, session: Session, tokenizer: Tokenizer | None) -> None:
        self.session, self._tokenizer = session, tokenizer
        self._read: list[str] = []  # texts of files, which stand before the next message
        self._images: list[Path] = []  # so do these

    def send(self, text: str) -> None:
        """Send a message, with the texts and images of the files that were named before it."""
        texts, self._read = [*self._read, text], []
        images, self._images = self._images, []
        self.session.answer("say", "\n\n".join(texts), images)

    def run(self, text: str) -> bool:
        """Run a command; returns whether the conversation goes on. Raises InputError for an unknown one."""
        name, _, rest = text.partition(" ")
        if name not in COMMANDS:
            guess = did_you_mean(name, COMMANDS, cutoff=0.7)
            said = [f"There is no command {name[:40]}.", guess, f"/{name[:40]} sends it as a message."]
            raise InputError(
                f"{' '.join(filter(None, said))}\n" + wrapped(f"Commands: {' '.join(COMMANDS)}", _columns())
            )
        return COMMANDS[name].run(self, rest.strip())

    def help(self, rest: str) -> bool:
        """List the commands."""
        width = _columns()
        shown: dict[str, str] = {}  # names of one command in one line
        for name, command in COMMANDS.items():
            same = next((n for n in shown if COMMANDS[n.split(",")[0]].run is command.run), None)
            if same is None:
                shown[name] = command.words
            else:
                shown[f"{same}, {name}"] = shown.pop(same)
        for names, words in shown.items():
            takes = COMMANDS[names.split(",")[0]].takes
            head = f"{names} {takes}".rstrip()
            if width < 60:
                tell(f"{head}\n{wrapped(words, width, '    ', 4)}")
            else:
                tell(wrapped(words, width, f"{head}  ", 26))
        tell(wrapped(KEYS_HELP, width))
        return True

    def set(self, rest: str) -> bool:
        """Change a setting."""
        if not rest:
            return self.show("")
        key, _, value = rest.partition(" ")
        value = value.strip()
        conversation = self.session.conversation
        if key == "context":
            conversation.context = None if value == OFF else whole_number(key, value)
        elif key.replace("-", "_") == "when_full":
            conversation.when_full = value  # type: ignore[assignment] # it is checked there
        else:
            self._change(setting(key, value, _columns()))
        note(f"{key}: {value or 'off'}", self.session.arguments)
        return True

    def _change(self, new: Sampling) -> None:
        settings = Sampling(**{**self.session.settings, **new})
        SamplingOptions(**settings)  # raises InputError
        self.session.settings = settings

    def show(self, rest: str) -> bool:
        """Show the model, the settings and the state of the conversation."""
        session, conversation = self.session, self.session.conversation
        system = conversation.system
        kept = history_file() if sys.stdin.isatty() and not session.arguments.no_history else None
        left_out = f", {conversation.left_out} of them left out" if conversation.left_out else ""
        recommended = model_settings(self._tokenizer)
        width = _columns()
        for name, words in {
            "model": session.about(),
            "context": f"{session.fullness()}; when it is full: {conversation.when_full}",
            "messages": f"{len(conversation.messages)}{left_out}",
            "system": "none" if system is None else cut(system),
            "settings": in_words(session.settings),
            "model's own": in_words(recommended) or "its files name none",
            "history": f"{kept} ({SETTING}={OFF} keeps none)" if kept else OFF,
        }.items():
            tell(wrapped(visible(words), width, name, 12))
        return True

    def system(self, rest: str) -> bool:
        """Set, show or remove the system message."""
        conversation = self.session.conversation
        if rest:
            conversation.system = None if rest == OFF else rest
        system = conversation.system
        tell("There is no system message." if system is None else f"system: {visible(cut(system))}")
        return True

    def undo(self, rest: str) -> bool:
        """Forget the last turn."""
        message = self.session.conversation.undo()
        note(f"Forgotten, with its answer: {cut(message, 60)}", self.session.arguments)
        return True

    def retry(self, rest: str) -> bool:
        """Answer once more."""
        if self.session.settings.get("temperature") == 0 and self.session.conversation.messages:
            note("At temperature 0 the answer is the same.", self.session.arguments)
        self.session.answer("answer_again")
        return True

    def go_on(self, rest: str) -> bool:
        """Continue the answer."""
        self.session.answer("continue_answer")
        return True

    def read(self, rest: str) -> bool:
        """Put the text of a file before the next message."""
        if not rest:
            raise InputError("Which file? /read notes.txt")
        text = read_file(path_of(rest))
        self._read.append(text)
        note(f"{len(text)} characters stand before the next message.", self.session.arguments)
        return True

    def image(self, rest: str) -> bool:
        """Put an image before the next message."""
        if not rest:
            raise InputError("Which file? /image cat.jpg")
        path = path_of(rest)
        processor = seeing(self._tokenizer)
        if processor is None:
            raise no_images(self.session.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is sent
            tokens = processor.tokens_of(processor.pixels(path))
        self._images.append(path)
        note(f"{path.name} stands before the next message: {tokens} tokens.", self.session.arguments)
        return True

    def edit(self, rest: str) -> bool:
        """Send what is written in an editor."""
        if not self.session.typed:
            raise InputError("/edit needs a terminal. A pipe is the message with --whole.")
        text = edited(rest)
        if text.strip():
            note(cut(text), self.session.arguments)
            self.send(text)
        return True

    def reset(self, rest: str) -> bool:
        """Begin a new conversation."""
        self._read, self._images = [], []
        self.session.conversation.reset()
        note("A new conversation.", self.session.arguments)
        return True

    def save(self, rest: str) -> bool:
        """Save the conversation."""
        with_cache = f" {rest}".endswith(WITH_CACHE)
        path = self._path(f" {rest}".removesuffix(WITH_CACHE).strip())
        self.save_to(path, with_cache)
        note(f"Saved: {path}{', and its cache' if with_cache else ''}", self.session.arguments)
        return True

    def save_to(self, path: Path, with_cache: bool = False) -> None:
        """Save the conversation to a file, with its settings."""
        session = self.session
        given = session.conversation, path, session.arguments.model, session.settings
        save_conversation(*given, with_cache=with_cache)
        session.file = path

    def load(self, rest: str) -> bool:
        """Load a conversation."""
        self.resume(self._path(rest))
        return True

    def resume(self, path: Path) -> None:
        """Go on with a saved conversation, under its settings."""
        session = self.session
        saved = read_conversation(path)
        if saved.model not in (None, session.arguments.model):
            note(f"It was a conversation with {cut(str(saved.model))}.", session.arguments)
        problem = resume(session.conversation, saved, path, session.model)
        if problem:
            note(problem, session.arguments)
        named = {name: value for name, value in saved.settings.items() if name not in session.arguments.given}
        self._change(Sampling(**named))  # type: ignore[typeddict-item]
        session.file = path
        last = text_of(saved.messages[-1]) if saved.messages else ""
        note(f"{len(saved.messages)} messages, the last: {cut(last)}", session.arguments)

    def _path(self, rest: str) -> Path:
        path = path_of(rest) if rest else self.session.file
        if path is None:
            raise InputError("Which file? /save talk.json")
        return path

    def stats(self, rest: str) -> bool:
        """Show the last answer's figures."""
        tell(self.session.figures())
        return True

    def leave(self, rest: str) -> bool:
        """End."""
        return False

    def completions(self, line: str) -> list[str]:
        """Return how the last word of a line may end."""
        before, _, word = line.rpartition(" ")
        if not before:
            return [f"{name} " for name in COMMANDS if word and name.startswith(word)]
        if before == "/set":
            return [f"{key} " for key in KEYS if key.startswith(word)]
        command, _, typed = line.partition(" ")
        return completions_of(typed) if command in ("/save", "/load", "/read", "/image") else []


COMMANDS = {
    "/help": Command("", "this list", Commands.help),
    "/system": Command("TEXT", "tell the model this first; alone shows it, off removes it", Commands.system),
    "/set": Command("KEY VALUE", f"change a setting: {', '.join(KEYS)}", Commands.set),
    "/show": Command("", "the model, the settings, and how full the context is", Commands.show),
    "/stats": Command("", "tokens and seconds of the last answer", Commands.stats),
    "/undo": Command("", "forget the last message and its answer", Commands.undo),
    "/retry": Command("", "another answer to the last message", Commands.retry),
    "/continue": Command("", "go on with the last answer", Commands.go_on),
    "/read": Command("FILE", "put the text of a file before the next message", Commands.read),
    "/image": Command("FILE", "show the model a picture with the next message", Commands.image),
    "/edit": Command("TEXT", "write the message in your editor ($EDITOR), and send it", Commands.edit),
    "/reset": Command("", "forget the conversation and begin anew", Commands.reset),
    "/save": Command("FILE [--cache]", "save the conversation, and what the model has read", Commands.save),
    "/load": Command("FILE", "go on with a saved conversation", Commands.load),
    "/exit": Command("", "end; so does Ctrl-D", Commands.leave),
    "/quit": Command("", "the same", Commands.leave),
    "/bye": Command("", "the same", Commands.leave),
}
KEYS_HELP = (
    '"""…""" and a \\ at the end of a line make a message of several lines, a paste is one; '
    "//… sends a text that begins with a slash. Ctrl-C stops an answer."
)


def _columns() -> int:
    """Return how wide what is shown may be."""
    return min(shutil.get_terminal_size().columns, 80) - 1


def cut(text: str, most: int = MOST_SHOWN) -> str:
    """Cut a text to its beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"
