"""Spelling out control characters, so that a terminal shows them instead of executing them.

Some characters are commands to a terminal: ESC begins sequences that colour, erase, rename the window, write
to the clipboard or make the terminal type an answer; carriage return and backspace overwrite text. A model
may have learnt any of them, and its files may have them in names and settings. So untrusted text is printed
with these characters spelled out:

    C0 controls, DEL           ^[  ^H  ^?           as `cat -v` writes them; line ends and tabs stay
    C1 controls                <U+009B>             which some terminals execute like ESC [
    bidirectional formatting   <U+202E>             embeddings, overrides, isolates: they reverse the order of
                                                    the text around them; arXiv:2111.00169
    surrogates                 <U+DCFF>             halves of characters, which no file can hold

Characters are replaced one by one, so it does not matter how a sequence is spread over tokens. Marks of
direction (U+200E, U+200F, U+061C) stay, as Hebrew and Arabic texts need them.
"""

import re

SPELLED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Spell out every control character, except line ends and tabs."""
    return SPELLED.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"^{chr(number ^ 0x40)}" if number < 0x80 else f"<U+{number:04X}>"
