"""What a model file says of its architecture for the documentation: ``FACTS``, at the end of each file.

Name, authors, year, papers, formulas and the table of parts stand in the file's docstring.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple


class Facts(NamedTuple):
    """The step from an earlier design to this one, and a published model that has it.

    grew_from  the model_type that it differs least from, not always the one its authors began with; None for
               a beginning
    kind       what the step is mostly about; "block" is norms, biases and how the parts are connected
    changed    what changed, in a line
    why        what that is good for, in a line
    published  a published model, by name or size, whose memory per token docs/architectures.md tells
    keys       what its config.json says where transformers' defaults differ and memory depends on it; a
               pattern of layers is cut to its period
    """

    grew_from: str | None
    kind: Literal["attention", "position", "experts", "block", "recurrence"]
    changed: str
    why: str
    published: str
    keys: Mapping[str, object] = {}
