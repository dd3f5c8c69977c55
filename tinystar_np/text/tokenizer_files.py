"""Loading a model's tokenizer, from whichever files its directory has.

    tokenizer.json             a complete description, which current models ship
    tokenizer.model            sentencepiece's own file, the only one of Llama's first releases
    vocab.json and merges.txt  byte-level BPE as in GPT-2; its class says how a text is cut

The small files beside them add tokens and settings to each.
"""

from collections.abc import Callable
from pathlib import Path

from tinystar_np.text.sentencepiece import load_sentencepiece
from tinystar_np.text.tokenizer import Backend, Tokenizer
from tinystar_np.text.tokenizer_faults import package_faults, small_file
from tinystar_np.text.tokenizer_json import load_tokenizer_json
from tinystar_np.text.tokenizer_settings import TokenizerSettings, read_settings
from tinystar_np.text.vocab_and_merges import load_vocab_and_merges

# The files that can hold a tokenizer, the most complete first.
LOADERS: dict[str, Callable[[Path, TokenizerSettings], tuple[Backend, TokenizerSettings]]] = {
    "tokenizer.json": load_tokenizer_json,
    "tokenizer.model": load_sentencepiece,
    "vocab.json": load_vocab_and_merges,
}


def load_tokenizer(directory: Path) -> Tokenizer | None:
    """Load the tokenizer of a model's directory.

    directory  holds `tokenizer.json`, `tokenizer.model`, or `vocab.json` with `merges.txt` as GPT-2's first
               releases do; and perhaps settings in `tokenizer_config.json`

    Returns None where there are no tokenizer files: a model can be run on ids alone.
    Raises TokenizerError where a file is damaged, one of a pair is missing, or the tokenizer's class is not
    implemented.
    """
    directory = Path(directory)
    for name, load in LOADERS.items():
        if (directory / name).exists():
            path = small_file(directory, name)
            settings = read_settings(directory)
            with package_faults(path):
                backend, settings = load(path, settings)
                return Tokenizer(backend, path, settings)
    return None
