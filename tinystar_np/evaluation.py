"""Evaluation: a model for EleutherAI's lm-evaluation-harness, the usual benchmark of language models.

    pip install 'tinystar_np[eval]'
    lm_eval --model tinystar --model_args pretrained=MODEL --tasks arc_easy,wikitext

The harness finds it as a plug-in, which its releases up to 0.4.13 do not look for: there

    python -m tinystar_np.evaluation --model tinystar --model_args pretrained=MODEL --tasks arc_easy

is the same command with the same arguments. Texts are cut into tokens, shortened and scored as by the
harness's own model ``hf``, which runs transformers; ``docs/evaluation.md`` says what equals what.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from pathlib import Path
from typing import Any, cast

try:
    from lm_eval.api.model import TemplateLM
except ModuleNotFoundError as error:
    if error.name == "lm_eval":
        error.msg = "The harness is missing. Install it: pip install 'tinystar_np[eval]'"
    raise
from lm_eval.api.registry import model_registry
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.likelihoods import Likelihood, likelihoods
from tinystar_np.generation.options import Sampling
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.serving.engine import Engine
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.harness_tokens import HarnessTokens, shortened
from tinystar_np.text import Tokenizer, load_tokenizer

NAME = "tinystar"
LENGTH = 2048
"""The longest text, in tokens, for models that name no length; the harness's own choice."""
NEW_TOKENS = 256
"""How many tokens an answer has at most where the task does not say; the harness's own choice."""
WAITING = 64
"""The most answers that the engine has been asked for and that are not collected yet."""
NO_TEMPLATE = "{}: the model has no chat template. Leave --apply_chat_template out."

Pair = tuple[str, str]
Encoded = tuple[Pair | None, list[int], list[int]]
"""A context and its continuation, as text and as ids; no text for a window of a longer one."""


class TinyStarLM(TemplateLM):  # type: ignore[misc] # the harness has no types
    """A model for the harness.

    pretrained       what ``load`` takes, or a model that is loaded
    tokenizer        a directory with another tokenizer, or one that is loaded; None for the model's own
    dtype, revision, offline, cache_dir, in_memory, isolated
                     see ``load``
    max_length       the longest text in tokens; None for that of the model's config
    add_bos_token    whether texts begin with the tokenizer's bos_token; None for what its files say
    prefix_token_id  what stands before a text without context; None for bos_token, or else eos_token
    think_end_token  what ends a model's reasoning, as text or id: answers are what comes after it
    enable_thinking  given to the chat template; None for nothing
    chat_template_args
                     further variables for the chat template
    max_gen_toks     see ``NEW_TOKENS``
    max_batch, cache_memory
                     see ``Engine``, which generates answers

    ``batch_size``, ``max_batch_size`` and ``device`` are what the harness gives to every model. They change
    nothing: what is read together follows from the requests, and it is read on the processor.
    """

    def __init__(
        self,
        pretrained: str | Path | Decoder,
        tokenizer: str | Path | Tokenizer | None = None,
        *,
        dtype: str = "auto",
        revision: str | None = None,
        offline: bool = False,
        cache_dir: str | None = None,
        in_memory: bool = False,
        isolated: bool = False,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        think_end_token: str | int | None = None,
        enable_thinking: bool | None = None,
        chat_template_args: Mapping[str, object] | None = None,
        max_gen_toks: int = NEW_TOKENS,
        max_batch: int = 16,
        cache_memory: int | str = "1GB",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        own: Tokenizer | None = None
        if isinstance(pretrained, str | Path):
            self._name = str(pretrained)
            model, own = load(
                pretrained,
                dtype,
                revision=revision,
                offline=offline,
                cache_dir=cache_dir,
                in_memory=in_memory,
                isolated=isolated,
            )
        else:
            self._name, model = type(pretrained).__name__, pretrained
        if isinstance(tokenizer, str | Path):
            tokenizer = load_tokenizer(Path(tokenizer), isolated)
        given = tokenizer or own
        if given is None:
            raise TokenizerError(f"{self._name}: this model has no tokenizer files; name some as tokenizer=…")
        self.model: Decoder = model
        most = model.context_length
        if max_length is not None and (max_length < 1 or (most is not None and max_length > most)):
            there = "" if most is None else f", and the model holds {most}"
            raise InputError(f"max_length = {max_length}; it must be 1 or more{there}.")
        self._tokens = HarnessTokens(given, self.model.end_ids, add_bos_token, prefix_token_id)
        self._max_length, self.max_gen_toks = max_length, max_gen_toks
        is_id = isinstance(think_end_token, str) and think_end_token.isdigit()
        self._think_end = int(think_end_token) if is_id and think_end_token else think_end_token
        thinking = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        self._template_variables = {**(chat_template_args or {}), **thinking}
        self._template: str | None = None
        """The name of the chat template, where one was chosen by its name."""
        self._max_batch, self._cache_memory = max_batch, cache_memory

    # Tokens

    @property
    def max_length(self) -> int:
        """The longest text, in tokens."""
        return self._max_length or self.model.trained_length or self.model.context_length or LENGTH

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._tokens.end_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context."""
        return self._tokens.prefix_id

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_: object,
    ) -> list[int]:
        """Cut a text into tokens.

        left_truncate_len  keep so many tokens of its end; None for all
        """
        ids = self._tokens.encode(string, add_special_tokens)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_decode(self, tokens: int | Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to a text."""
        ids = [tokens] if isinstance(tokens, int) else tokens
        return self._tokens.decode(ids, special=not skip_special_tokens)

    # Chats

    @property
    def tokenizer_name(self) -> str:
        """What tells this tokenizer from others, where the harness keeps requests."""
        return str(self._tokens.tokenizer.path.parent).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the source of the model's chat template, for the record.

        chat_template  True for the usual one, the name of another one, False for none
        """
        if chat_template is False or chat_template is None:
            return None
        template = self._tokens.tokenizer.chat_template
        if template is None:
            raise TokenizerError(NO_TEMPLATE.format(self._name))
        if isinstance(chat_template, str) and chat_template in template.sources:
            self._template = chat_template
            return template.sources[chat_template]
        return template.sources.get("default", next(iter(template.sources.values())))

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, object]], add_generation_prompt: bool = True
    ) -> str:
        """Write a conversation as text; without its system message where the template refuses that."""
        template = self._tokens.tokenizer.chat_template
        if template is None:
            raise TokenizerError(NO_TEMPLATE.format(self._name))
        how: dict[str, Any] = {"chat_template": self._template, **self._template_variables}
        how |= {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return template.render(chat_history, **how)
        except InputError:
            rest = [message for message in chat_history if message["role"] != "system"]
            if len(rest) == len(chat_history):
                raise
            return template.render(rest, **how)

    # Log-likelihoods

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        """Score continuations; texts too long for the model lose their beginnings."""
        ends = [shortened(before, after, self.max_length) for _, before, after in requests]
        answers: dict[int, tuple[float, bool]] = {}
        with tqdm(total=len(ends), disable=disable_tqdm, desc="Scoring continuations") as progress:

            def done(index: int, likelihood: Likelihood) -> None:
                answers[index] = fsum(likelihood.logprobs.tolist()), likelihood.greedy
                if (text := requests[index][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", text, answers[index])
                progress.update()

            likelihoods(self.model, ends, done)
        return [answers[i] for i in range(len(ends))]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts: windows of the longest length, each token in one of them."""
        windows: list[Encoded] = []
        counts = []
        for (text,) in (request.args for request in requests):
            its = get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            before = len(windows)
            windows += [(None, *make_disjoint_window(window)) for window in its]
            counts.append(len(windows) - before)
        answers = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        sums = []
        for request, count in zip(requests, counts, strict=True):
            sums.append(fsum(next(answers)[0] for _ in range(count)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, sums[-1])
        return sums

    # Answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate answers up to the texts that end them; many at once, each as if alone."""
        answers: list[str] = []
        waiting: deque[tuple[Any, list[str], Handle]] = deque()
        with (
            tqdm(total=len(requests), disable=disable_tqdm, desc="Generating answers") as progress,
            Engine(
                self.model,
                self._tokens.tokenizer,
                cache_memory=self._cache_memory,
                max_batch=self._max_batch,
                max_waiting=WAITING,
            ) as engine,
        ):

            def collect() -> None:
                request, until, handle = waiting.popleft()
                handle.result()
                answers.append(self._answer(handle.token_ids, until))
                self.cache_hook.add_partial("generate_until", request.args, answers[-1])
                progress.update()

            for request in requests:
                context, settings = request.args
                until, sampling = self._sampling(settings)
                most = self.max_length - sampling["max_new_tokens"]
                if most < 1:
                    raise InputError(
                        f"{sampling['max_new_tokens']} new tokens leave no room for a prompt in a context of "
                        f"{self.max_length}: ask for fewer (max_gen_toks)."
                    )
                ids = self.tok_encode(context, left_truncate_len=most) or [self.prefix_token_id]
                if len(waiting) == WAITING:
                    collect()
                waiting.append((request, until, engine.submit(ids, **sampling)))
            while waiting:
                collect()
        return answers

    def _sampling(self, settings: Mapping[str, object]) -> tuple[list[str], Sampling]:
        """Return the texts that end an answer, and an engine's settings for a task's."""
        rest: dict[str, Any] = dict(normalize_gen_kwargs(dict(settings), self.max_gen_toks))
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = [text for text in handle_stop_sequences(rest.pop("until"), eos=end) if text]
        drawn = rest.pop("do_sample")
        most = rest.pop("max_gen_toks")
        temperature = float(rest.pop("temperature", 1.0)) if drawn else 0.0
        unknown = rest.keys() - Sampling.__annotations__.keys()
        if unknown:
            raise InputError(
                f"The task's generation_kwargs name {', '.join(sorted(unknown))}, not known here; known are "
                f"until, max_gen_toks, do_sample, {', '.join(Sampling.__annotations__)}."
            )
        sampling = {**rest, "max_new_tokens": most, "temperature": temperature, "stop": until}
        return until, cast(Sampling, sampling)

    def _answer(self, ids: Sequence[int], until: Sequence[str]) -> str:
        """Return the text of an answer: after the reasoning, and before what ends it."""
        if isinstance(self._think_end, int):
            if self._think_end in ids:
                ids = ids[len(ids) - [*reversed(ids)].index(self._think_end) :]
            return postprocess_generated_text(self.tok_decode(ids).lstrip(), list(until), None)
        return postprocess_generated_text(self.tok_decode(ids), list(until), self._think_end)

    def get_model_info(self) -> dict[str, object]:
        """Describe the model, for the record of results."""
        return {"model_num_parameters": self.model.parameters, "max_length": self.max_length}


def register() -> None:
    """Make the model known to the harness under its name, where it has not looked for plug-ins itself."""
    import lm_eval.models  # noqa: F401 — registers the harness's own, which it does only where none is

    if NAME not in model_registry:
        model_registry.register(NAME, target="tinystar_np.evaluation:TinyStarLM")


def main() -> None:
    """Run the harness's own command."""
    from lm_eval.__main__ import cli_evaluate

    register()
    cli_evaluate()


if __name__ == "__main__":
    main()
