"""The sampler's steps for each token that was written, as the page shows them."""

from typing import TYPE_CHECKING

import numpy as np

from tinystar_np.generation.options import SamplingOptions
from tinystar_np.seeing.sampler_steps import Candidate, SamplerSteps, sampler_steps

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]
SHOWN = 8


def steps_of_all(seen: "Seen") -> list[SamplerSteps]:
    """Return the steps for each token that was written, in order; none where the numbers drawn are unknown.

    They are taken on the recorded logits with the same random numbers. Logits of one pass and of a cache may
    differ in their last bits, so that on the border of two tokens another may come out than was written.
    """
    options = seen.options
    if options.temperature != 0 and options.seed is None:
        return []
    rng = None if options.temperature == 0 else np.random.default_rng(options.seed)
    logits = seen.recording["logits"][0]
    return [
        sampler_steps(
            *(logits[i - 1], seen.ids[:i], options, rng, SHOWN), generated=seen.ids[seen.prompt_length : i]
        )
        for i in range(seen.prompt_length, len(seen.ids))
    ]


def sampler_json(seen: "Seen", steps: list[SamplerSteps]) -> list[Json]:
    """Return the steps as JSON; ``steps`` may be none."""
    written = seen.ids[seen.prompt_length :] if steps else ()
    return [
        {
            "same": each.token_id == id,
            "steps": [
                {
                    "name": step.name,
                    "setting": step.setting,
                    "left": step.left,
                    "fell": step.fell,
                    "mass": step.model_mass,
                    "leading": _listed(step.leading),
                    "fallen": _listed(step.fallen),
                }
                for step in each.steps
            ],
            "drawn": None
            if each.drawn is None
            else {"start": each.drawn.start, "end": each.drawn.end, "number": each.drawn.number},
        }
        for each, id in zip(steps, written, strict=True)
    ]


def options_json(options: SamplingOptions) -> Json:
    """Return the settings that were given to the sampler, those that are off left out."""
    off = SamplingOptions()
    names = (
        *("top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size"),
        *("frequency_penalty", "presence_penalty", "logit_bias"),
    )
    given: Json = {name: getattr(options, name) for name in names}
    on = {name: value for name, value in given.items() if value != getattr(off, name)}
    return {"temperature": options.temperature, **on}


def _listed(candidates: tuple[Candidate, ...]) -> list[list[float]]:
    """Return ids and probabilities, six digits of each."""
    return [[each.token_id, float(f"{each.probability:.6g}")] for each in candidates]
