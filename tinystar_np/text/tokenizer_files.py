"""Loading a model's tokenizer, from whichever files its directory has.

    tokenizer.json             a complete description, which current models ship
    tekken.json                Mistral's own, which some of its repositories have alone
    spiece.model               SigLIP's (siglip_pieces.py), of sentencepiece's form
    tokenizer.model            sentencepiece's own file, the only one of Llama's first releases; or one of
                               tiktoken's form, as in Meta's own releases of Llama 3 and 4
    qwen.tiktoken              the only one of the first Qwen
    vocab.json and merges.txt  BPE, byte-level as in GPT-2 or not; its class says how a text is cut
    vocab.txt and emoji.json   GPT-NeoX Japanese's (japanese_pieces.py)

The small files beside them add tokens and settings to each.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tokenizers import AddedToken

from tinystar_np.checkpoints.model_files import GGUF
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.ordinary import are_few
from tinystar_np.text.sentencepiece import load_sentencepiece
from tinystar_np.text.tokenizer import Backend, Tokenizer
from tinystar_np.text.tokenizer_faults import NotOrdinaryError, package_faults, small_file
from tinystar_np.text.tokenizer_json import load_tokenizer_json
from tinystar_np.text.tokenizer_settings import TokenizerSettings, read_settings
from tinystar_np.text.vocab_and_merges import load_vocab_and_merges


def load_tokenizer_model(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[Backend, TokenizerSettings]:
    """Load a `tokenizer.model`, which two packages call their files."""
    from tinystar_np.text.tiktoken_file import is_tiktoken

    load = load_tiktoken if is_tiktoken(path) else load_sentencepiece
    return load(path, settings, ordinary_only)


def load_tiktoken(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[Backend, TokenizerSettings]:
    """Load a file of tiktoken's form."""
    from tinystar_np.text import tiktoken_file  # late, as below: few models have it

    return tiktoken_file.load_tiktoken(path, settings, ordinary_only)


def load_siglip(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[Backend, TokenizerSettings]:
    """Load SigLIP's sentencepiece model."""
    from tinystar_np.text.siglip_pieces import load_siglip_pieces

    return load_siglip_pieces(path, settings, ordinary_only)


def load_tekken(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[Backend, TokenizerSettings]:
    """Load Mistral's own file."""
    from tinystar_np.text import tekken_file

    return tekken_file.load_tekken(path, settings, ordinary_only)


def load_japanese(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[Backend, TokenizerSettings]:
    """Load GPT-NeoX Japanese's pieces."""
    from tinystar_np.text.japanese_pieces import load_japanese_pieces

    return load_japanese_pieces(path, settings, ordinary_only)


SIGLIP_FILE = "spiece.model"
JAPANESE_FILE = "vocab.txt"
# The files that can hold a tokenizer, the most complete first.
LOADERS: dict[str, Callable[[Path, TokenizerSettings, bool], tuple[Backend, TokenizerSettings]]] = {
    "tokenizer.json": load_tokenizer_json,
    "tekken.json": load_tekken,
    "tokenizer.model": load_tokenizer_model,
    SIGLIP_FILE: load_siglip,
    "qwen.tiktoken": load_tiktoken,
    "vocab.json": load_vocab_and_merges,
    JAPANESE_FILE: load_japanese,
}


def load_tokenizer(directory: Path, isolated: bool = False) -> Tokenizer | None:
    """Load the tokenizer of a model's directory, or GGUF file.

    directory  holds `tokenizer.json` or another of the files above; and perhaps settings in
               `tokenizer_config.json`. Or a GGUF file
    isolated   run it in a worker, a process with limits of time and memory. That is done in any case where it
               is not like those of known models (ordinary.py), and where there is only a sentencepiece model.

    Returns None where there are no tokenizer files: a model can be run on ids alone.
    Raises TokenizerError where a file is damaged, one of a pair is missing, or the tokenizer's class is not
    implemented.
    """
    directory = Path(directory)
    if directory.suffix == GGUF:
        from tinystar_np.checkpoints.gguf_file import map_gguf  # late, too
        from tinystar_np.text.gguf_tokenizer import load_gguf_tokenizer

        return load_gguf_tokenizer(map_gguf(directory).metadata, directory, isolated)
    if not isolated:
        try:
            return load_in_this_process(directory, ordinary_only=True)
        except NotOrdinaryError:
            pass
    path = _find(directory)
    if path is None:
        return None
    settings = read_settings(directory)
    backend = IsolatedTokenizer({"directory": str(directory.absolute())}, path, path.stat().st_size)
    named = {role: AddedToken(text, special=True) for role, text in backend.special_tokens.items()}
    return Tokenizer(backend, path, replace(settings, named=named))


def load_in_this_process(directory: Path, ordinary_only: bool = False) -> Tokenizer | None:
    """Load a tokenizer as above, but never in a worker.

    ordinary_only  raise NotOrdinaryError for one that is not like those of known models
    """
    path = _find(directory)
    if path is None:
        return None
    settings = read_settings(directory)
    stated = (*settings.added.values(), *settings.extra, *settings.named.values())
    if ordinary_only and not are_few([token.content for token in stated if token is not None]):
        raise NotOrdinaryError
    with package_faults(path):
        backend, settings = LOADERS[path.name](path, settings, ordinary_only)
        return Tokenizer(backend, path, settings)


def _find(directory: Path) -> Path | None:
    """Return the file of a tokenizer; None where there is none."""
    there = (name for name in LOADERS if (directory / name).exists())
    name = next((name for name in there if _is_of_its_class(name, directory)), None)
    return None if name is None else small_file(directory, name)


def _is_of_its_class(name: str, directory: Path) -> bool:
    """Say whether a file is what its name means here, where other models have other files of that name."""
    if name == SIGLIP_FILE:
        return is_siglip(read_settings(directory))
    if name == JAPANESE_FILE:
        from tinystar_np.text.japanese_pieces import is_japanese

        return is_japanese(read_settings(directory))
    return True


def is_siglip(settings: TokenizerSettings) -> bool:
    """Say whether a `spiece.model` is SigLIP's; T5 and others have one that is used in other ways."""
    return settings.class_name == "SiglipTokenizer" or (
        settings.class_name is None and settings.model_type == "siglip"
    )
