"""FP8: matrices in floats of 8 bits (kernels/float8.py), as in DeepSeek-V3 and (fbgemm) Llama 3.1 405B.

    NAME             F8_E4M3 (out, in)
    NAME_scale_inv   float, (out / 128, in / 128) with ``weight_block_size`` [128, 128], rounded up; or one
                     number, or one for each output. It is what the codes are multiplied by, despite its name.
    NAME_scale       the same, as "fbgemm_fp8" and others call it

``activation_scheme`` "static" adds scales by which activations are rounded, NAME less its "weight" with
"input_scale" or "activation_scale". Those are not needed: activations stay float32, which rounding would only
make less exact. Source: transformers, ``integrations/finegrained_fp8.py``.
"""

from collections.abc import Iterator, Mapping

from tinystar_np.checkpoints.packed_tensor import FLOATS, PackedTensor, Parts, scaled
from tinystar_np.kernels.float8 import E4M3
from tinystar_np.kernels.mxfp4 import E8M0

ENDINGS = ("_scale_inv", "_scale")
EXPONENTS = ("F8_E8M0", "U8")


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here."""
    return settings.get("fmt", "e4m3") in ("e4m3", "float8_e4m3fn", None) and (
        settings.get("weight_block_size") is None or _block(settings) is not None
    )


def _block(settings: Mapping[str, object]) -> tuple[int, int] | None:
    """Return rows and columns of a block, None where the settings name none."""
    sides = settings.get("weight_block_size")
    if isinstance(sides, list) and [type(side) for side in sides] == [int, int] and min(sides) >= 1:
        return sides[0], sides[1]
    return None


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    block = _block(settings)
    for name in parts:
        codes = parts[name]
        if codes.element_type == "F8_E4M3":
            ending = next((ending for ending in ENDINGS if name + ending in parts), ENDINGS[0])
            scales = parts.need(name + ending, name, (*FLOATS, *EXPONENTS))
            scale_code = E8M0 if scales.element_type in EXPONENTS else None
            blocks = () if block is None else (block,)
            yield scaled(codes, scales, E4M3, name, blocks=blocks, scale_code=scale_code)
