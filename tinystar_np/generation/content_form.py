"""In which form a chat template takes the contents of messages: as texts, or as lists of parts.

    {"role": "user", "content": "Who?"}
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]}

Templates of models that see differ, and one may take a system's message in another form than a user's. What a
template does not expect it leaves out without a word, or writes as Python prints a list. So the form is found
by writing a word with it.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.messages import Message, Part, cut_marks
from tinystar_np.text.chat_template import ChatTemplate

PROBE = "What is asked?"
KEYS = (("text",), ("text", "content"))
"""Where the text of a part stands. Under "content", too, for the first template of Pixtral 12B, which reads
nothing else."""
SIGNS_OF_A_LIST = ("'type':", '"type":')
"""What shows that a template has printed a part, instead of its text."""


class Form(NamedTuple):
    """How the contents of one role are given.

    as_parts  whether a text, too, becomes a list of one part
    keys      of a part's text
    """

    as_parts: bool = False
    keys: Sequence[str] = KEYS[0]

    def of(self, content: str | Sequence[Part]) -> str | list[Part]:
        """Return a content as the template takes it: of an image it learns that there is one."""
        if isinstance(content, str):
            return [self._text({"type": "text", "text": content})] if self.as_parts else content
        return [self._text(part) if part["type"] == "text" else {"type": "image"} for part in content]

    def _text(self, part: Part) -> Part:
        return part | dict.fromkeys(self.keys, part["text"])


class ContentForms:
    """The forms that one template takes, each found when it is first needed.

    marks  the words that stand for images: where an answer has one, it is cut (``cut_marks``)
    """

    def __init__(self, template: ChatTemplate, marks: Collection[str] = ()) -> None:
        self._template, self._marks = template, marks
        self._found: dict[str, Form] = {}

    def given(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages as the template takes them."""
        return [self._given(each) for each in messages]

    def _given(self, message: Message) -> Message:
        if message.get("content") is None:  # a call of a tool
            return message
        return {**message, "content": self.of_role(message["role"]).of(self._cut(message))}

    def _cut(self, message: Message) -> str | list[Part]:
        """Return a message's content, in an answer without words that would stand for images."""
        content: str | list[Part] = message["content"]
        if message["role"] != "assistant":
            return content
        if isinstance(content, str):
            return cut_marks(content, self._marks)
        return [
            part | {"text": cut_marks(part["text"], self._marks)} if part["type"] == "text" else part
            for part in content
        ]

    def of_role(self, role: str) -> Form:
        """Return the form of a role's contents; a text where the template takes neither."""
        if role not in self._found:
            keys = next((keys for keys in KEYS if self._writes(role, Form(True, keys))), None)
            as_text = keys is None or self._writes(role, Form())
            self._found[role] = Form(not as_text, KEYS[0] if keys is None else keys)
        return self._found[role]

    def _writes(self, role: str, form: Form) -> bool:
        """Say whether a message of this role appears in a conversation if it is given in this form."""
        asked = {"role": role, "content": form.of(PROBE)}
        messages = [asked]
        if role != "user":
            user = {"role": "user", "content": self.of_role("user").of("Hello")}
            messages = [asked, user] if role == "system" else [user, asked]
        try:
            written = self._template.render(messages, add_generation_prompt=role != "assistant")
        except (InputError, TokenizerError):
            return False
        return PROBE in written and not any(sign in written for sign in SIGNS_OF_A_LIST)
