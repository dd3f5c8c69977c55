"""What was meant by an option, a command or a value that there is not.

Options of other programs are known too: ``--n-predict`` (llama.cpp) and ``--max-new-tokens`` (transformers)
are ``--max-tokens`` here.
"""

import argparse
from collections.abc import Collection
from difflib import get_close_matches

from tinystar_np.cli.wording import listed
from tinystar_np.generation.setting_names import ADVICE, CALLED

OPTIONS = {"max_new_tokens": "--max-tokens", "prompt_lookup_num_tokens": "--prompt-lookup"}
"""Settings whose option is not spelled as they are."""
OTHERS = {
    "--n-gpu-layers": "Everything runs on the processor.",
    "--ngl": "Everything runs on the processor.",
    "--device": "Everything runs on the processor.",
    "--ctx-size": "A cache grows as the text does, up to the model's own context.",
    "--prompt": "The prompt needs no option: it is the last word of the command line, or comes from a pipe.",
    "--file": "A prompt in a file comes from a pipe: command < FILE.",
    "--model-path": "Did you mean --model?",
    "--trust-remote-code": "No code of a model is ever run.",
}
"""Options of others that are no settings, and what there is instead."""


FEW = 16
"""So many choices are listed in an error."""


def unknown(extra: list[str], parser: argparse.ArgumentParser) -> str:
    """Say what of a command line was not understood, and what is near it.

    extra   the words that are left
    parser  of the command
    """
    options = [word for word in extra if word.startswith("-") and word != "-"]
    if not options:
        return f"{extra[0]!r} is one word too many. Put a text with spaces in quotation marks."
    option = options[0].partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    return f"there is no option {option}. {_meant(option, known)}".rstrip()


def _meant(option: str, known: Collection[str]) -> str:
    """Say which option is most likely meant; "" if none is near."""
    if option in OTHERS:
        return OTHERS[option]
    name = option.strip("-").replace("-", "_")
    setting = CALLED.get(name, name)
    spelled = OPTIONS.get(setting, f"--{setting.replace('_', '-')}")
    if spelled in known:
        return f"It is called {spelled} here."
    if name in ADVICE and "(" not in ADVICE[name]:
        return ADVICE[name]
    return did_you_mean(option, known)


def did_you_mean(word: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """Ask whether the known word nearest to one was meant; "" if none is near."""
    near = get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"Did you mean {near[0]}?" if near else ""


def no_such(what: str, value: object, choices: Collection[object]) -> str:
    """Say that a value is not one of the choices, and which is near it.

    what  what the value is for: "COMMAND", "--dtype"
    """
    names = [str(choice) for choice in choices]
    few = len(names) <= FEW
    near = get_close_matches(str(value), names, n=1 if few else 4, cutoff=0.6)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    all_of_them = f" There are: {listed(names)}." if few else ""
    return f"there is no {what} {value!r}.{meant}{all_of_them}"
