"""What a prompt is too short to show: an error there would go unseen."""

from tinystar_np.layers.rope import rules_by_length
from tinystar_np.models import Decoder
from tinystar_np.models.config import Config

FEW = 8  # tokens: the slow pairs of rotary embedding have hardly turned, and few places are masked


def unseen_in(model: Decoder, tokens: int) -> list[str]:
    """Say what a text of so many tokens cannot show of a model, a phrase for each; none if it shows all."""
    config: Config = model.config
    if tokens == 1:
        return [
            "one token sees nothing but itself, and stands at position 0: rotary embedding, other positions, "
            "scales of scores and masks have no effect"
        ]
    said = []
    if tokens < FEW:
        said.append(f"{tokens} tokens show little of positions and masks")
    windows = sorted({window for window in config.windows if window is not None and window >= tokens})
    if windows:
        said.append(f"windows of {', '.join(map(str, windows))} tokens are not reached by {tokens}")
    changes = sorted({rule.shortest for rule in rules_by_length(model.blocks) if tokens <= rule.shortest})
    if changes:
        lengths = ", ".join(map(str, changes))
        said.append(f"rotations change beyond {lengths} tokens, which {tokens} do not reach")
    return said
