"""``tinystar inspect --check``: hold the names and shapes of all tensors against the model's weight table."""

from dataclasses import dataclass
from pathlib import Path

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import Faults
from tinystar_np.checkpoints.json_file import JsonObject, one_line, shown
from tinystar_np.checkpoints.model_source import ModelSource
from tinystar_np.errors import CheckpointError
from tinystar_np.models import Decoder, vision_class
from tinystar_np.models.fitted import fitting
from tinystar_np.models.text_part import (
    has_vision,
    projector_tensors,
    text_config,
    text_tensors,
    vision_tensors,
)
from tinystar_np.models.vision_part import VisionPart

MOST = 20  # tensors of each kind that are listed


@dataclass(frozen=True)
class CheckedNames:
    """How the tensors fit the architecture.

    path     of the weights, their directory or file
    tensors  how many of them the model uses
    faults   those that are missing, unknown, or of another shape
    """

    path: Path
    tensors: int
    faults: Faults

    @property
    def facts(self) -> JsonObject:
        """The same for programs."""
        missing, left_over, misfits = self.faults
        shapes = {name: {"shape": found, "expected": asked} for name, (found, asked) in misfits.items()}
        return {"fitting": self.tensors, "missing": missing, "unknown": left_over, "misshapen": shapes}

    @property
    def lines(self) -> list[str]:
        """A line for each fault, or one line if there is none."""
        missing, left_over, misfits = self.faults
        if not any(self.faults):
            return [f"{self.tensors} tensors fit config.json by name and shape: none missing, none unknown"]
        shapes = [
            f"{one_line(name)}: shape {shown(found)}, expected {asked}"
            + (": it is transposed" if found == asked[::-1] else "")
            for name, (found, asked) in misfits.items()
        ]
        return [
            *_some([f"{one_line(name)}: missing" for name in missing]),
            *_some([f"{one_line(name)}: unknown to this architecture" for name in left_over]),
            *_some(shapes),
        ]

    def raise_if_any(self) -> None:
        """Raise CheckpointError if a tensor is missing, unknown, or of another shape."""
        missing, left_over, misfits = self.faults
        counts = ((missing, "missing"), (left_over, "unknown"), (misfits, "of another shape"))
        said = ", ".join(f"{len(names)} {what}" for names, what in counts if names)
        if said:
            words = f"the tensors do not fit config.json: {said}"
            raise CheckpointError(f"{self.path}: {words}.\n{remedy(self.path)}")


def _some(lines: list[str]) -> list[str]:
    left_out = len(lines) - MOST
    return lines if left_out <= 0 else [*lines[:MOST], f"… and {left_out} more"]


def check_names(source: ModelSource, model: Decoder) -> CheckedNames:
    """Hold the tensors of a model's files against its weight table.

    model  a hollow one will do (inspection/hollow.py)

    Raises CheckpointError where the files cannot be read.
    """
    whole = source.checkpoint(text_config(source.config))
    _, table, faults = fitting(type(model), model.config, text_tensors(whole, source.config))
    found = [(len(table.tensors), faults)]
    sees = vision_class(source.config["model_type"])
    if sees is not None and has_vision(whole):
        found += check_vision(sees, source.config, model, whole)
    fitted, all_faults = zip(*found, strict=True)
    missing = [name for each in all_faults for name in each.missing]
    left_over = [name for each in all_faults for name in each.left_over]
    misfits = {name: shapes for each in all_faults for name, shapes in each.misfits.items()}
    return CheckedNames(source.path, sum(fitted), Faults(missing, left_over, misfits))


def check_vision(
    sees: type[VisionPart], raw: JsonObject, model: Decoder, whole: Checkpoint
) -> list[tuple[int, Faults]]:
    """Hold the tensors of a vision part against its weight tables: how many fit, and what is wrong."""
    config = sees.config_of(raw, model.config)
    encoder, its_config = sees.encoder_of(config)
    found = []
    for kind, its, tensors in (
        (encoder, its_config, vision_tensors(whole)),
        (sees, config, projector_tensors(whole)),
    ):
        _, table, faults = fitting(kind, its, tensors)
        found.append((len(table.tensors), faults))
    return found


def remedy(path: Path) -> str:
    """Say what to do about wrong weights; outside the hub's cache a conversion may have written them."""
    if "snapshots" in path.parts:
        return "A file is damaged or of another model: download it again, or use another checkpoint."
    return "If a conversion wrote these files, the fault is there; if they were downloaded, do that again."
