"""Write tinystar_np/shipped/seven_designs.json: what the training of the seven designs measured, in short.

    python docs/tools/seven_designs.py results.json

results.json is what the training run wrote; examples/seven_designs/README.md says how that was done. Kept are
configs, sizes, losses along the way and at the end, recall by distance and associative recall. Left out are
how long each part took, the losses at each place of a repeated span, and digits beyond the sixth.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[2] / "tinystar_np" / "shipped" / "seven_designs.json"
ABOUT = (
    "The seven designs, trained alike and measured: one run. Losses are in nats, of held-out text. "
    "Written by docs/tools/seven_designs.py."
)
SETTINGS = (
    *("batch", "context", "lr", "warmup", "eval_rows", "recall_rows"),
    *("pairs", "pairs_length", "pairs_words"),
)
DIGITS = 6


def short(results: dict[str, Any]) -> dict[str, Any]:
    """Keep what `tinystar experiments --trained` and the book need."""
    corpora = {name.removeprefix("held_out_"): text for name, text in results["data"]["corpora"].items()}
    return {
        "about": ABOUT,
        "device": results["device"],
        "torch": results["torch"],
        "settings": {key: results["settings"][key] for key in SETTINGS},
        "texts": corpora,
        "designs": {name: design(found) for name, found in results["designs"].items()},
        "associative_recall": {
            kind: {name: associative(found) for name, found in models.items()}
            for kind, models in results["pairs"].items()
        },
    }


def design(found: dict[str, Any]) -> dict[str, Any]:
    """Keep a design's config and its runs, by seed."""
    return {
        "config": found["config"],
        "parameters": found["parameters"],
        "runs": {seed: run(each) for seed, each in found["runs"].items()},
    }


def run(found: dict[str, Any]) -> dict[str, Any]:
    """Keep one training: its curves, and what was measured at its end."""
    copies = found["recall"]["by_distance"]
    part = "nats_per_token_after_the_first_eighth"
    looks = found["held_out"]
    return {
        **kept(found, ("steps", "planned_steps", "best_step", "cut", "epochs", "seconds")),
        "train": curve(found["train"]),
        "held_out": {
            "steps": [step for step, _ in looks],
            **{text: [rounded(losses[text][1]) for _, losses in looks] for text in looks[0][1]},
        },
        "final": {text: rounded(losses) for text, losses in found["final"].items()},
        "recall": {
            "span": found["recall"]["span"],
            "nats_per_token": {distance: rounded(each[part]) for distance, each in copies.items()},
        },
    }


def associative(found: dict[str, Any]) -> dict[str, Any]:
    """Keep one model's associative recall: the shares of right answers.

    At the end there are two, of all that is asked, and of what is asked in the last quarter of a row.
    """
    sizes = ("parameters", "layers", "hidden_size", "window", "steps", "planned_steps", "cut")
    return {
        **kept(found, sizes),
        "right": {
            "steps": [step for step, _ in found["right"]],
            **{pairs: [right[pairs][0] for _, right in found["right"]] for pairs in found["final"]},
        },
        "final": found["final"],
    }


def curve(points: list[list[float]]) -> dict[str, list[float]]:
    """Turn [[step, loss], …] into a list of each."""
    steps, losses = zip(*points, strict=True)
    return {"steps": list(steps), "loss": list(losses)}


def kept(found: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Keep some keys."""
    return {key: rounded(found[key]) for key in keys}


def rounded(value: Any) -> Any:
    """Round floats, in dicts too."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value


def as_text(found: Any, indent: str = "") -> str:
    """Write JSON with a line for each entry of an object, but none for those of a short one."""
    flat = json.dumps(found, ensure_ascii=False)
    if len(indent) + len(flat) <= 110 or not isinstance(found, dict):
        return flat
    inner = indent + " "
    lines = [f"{inner}{json.dumps(key)}: {as_text(each, inner)}" for key, each in found.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        SHIPPED.write_text(as_text(short(json.load(file))) + "\n", encoding="utf-8")
