"""A coverage-guided search for files that break the reader: damage is kept where it reaches new lines.

    pip install atheris                                       # Linux, as the other tests of damage
    python tests/fuzz_with_atheris.py -max_total_time=600     # and what else libFuzzer takes

The damage is that of mutations.py, but cases run within this process, for coverage to be seen; libFuzzer
itself stops at a case of 20 s or 2 GB. What it finds is written to crash-… in this directory; give the file's
name to see the case again. No part of the test suite: pytest does not collect it.
"""

# ruff: noqa: E402 — the path comes first

import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from mutations import BYTE_WAYS, JSON_WAYS, VALUES, Edit, outcome
from small_checkpoints import MODELS, save_small_model

with atheris.instrument_imports(include=["tinystar_np"]):
    import tinystar_np.loading
    import tinystar_np.text.template  # noqa: F401 — imported here, where imports are instrumented

WAYS = (*BYTE_WAYS, *JSON_WAYS)
LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=64")


def edit_of(data: atheris.FuzzedDataProvider) -> Edit:
    """Read one edit from the fuzzer's bytes."""
    file, way = data.ConsumeIntInRange(0, 15), WAYS[data.ConsumeIntInRange(0, len(WAYS) - 1)]
    place, length = data.ConsumeIntInRange(0, 2**16), data.ConsumeIntInRange(1, 20_000)
    which = data.ConsumeIntInRange(0, len(VALUES) + 1)
    value = VALUES[which] if which < len(VALUES) else data.ConsumeBytes(12)
    return file, way, place, length, value


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = [save_small_model(name, Path(folder) / name) for name in MODELS]

        def one_input(content: bytes) -> None:
            data = atheris.FuzzedDataProvider(content)
            model = models[data.ConsumeIntInRange(0, len(models) - 1)]
            edits = []
            while data.remaining_bytes() and len(edits) < 4:
                edits.append(edit_of(data))
            outcome(model, edits)  # raises what may not be

        given = [argument for argument in LIMITS if argument.split("=")[0] not in " ".join(sys.argv)]
        atheris.Setup([sys.argv[0], *given, *sys.argv[1:]], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
