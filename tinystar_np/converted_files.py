"""What stands beside the weights of a converted model: config.json, the tokenizer, which tokens end a text.

A directory's own files are copied. From a GGUF file, which says all that in its metadata, they are written as
transformers reads them.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE, GENERATION_FILE
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.gguf_source import GgufModel
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.model_files import small_files
from tinystar_np.checkpoints.model_source import ModelSource
from tinystar_np.models import model_class
from tinystar_np.text.gguf_tokenizer import gguf_end_ids
from tinystar_np.text.gguf_tokenizer_files import gguf_tokenizer_files, special_ids

OTHER_CLASSES = {"gpt2": "GPT2LMHeadModel", "gemma3_text": "Gemma3ForCausalLM"}


def converted_config(source: ModelSource, dtype: str | None, settings: Mapping[str, object] | None) -> str:
    """Return the text of the new config.json.

    dtype     of the new weights, or of those that are not packed; None where they keep theirs
    settings  of their packing, for its key quantization_config
    """
    if isinstance(source, GgufModel):
        ids = special_ids(source.file.metadata, source.path)
        # What keeps its type, such as the embedding, is float32 in any model that was packed.
        config = {"architectures": [_class_in_transformers(source.config["model_type"])], **source.config}
        config |= ids | {"dtype": dtype or "float32"}
    else:
        # It was checked before. Infinity stays as it is spelled there.
        config = json.loads(file_inside(source.path, CONFIG_FILE).read_bytes())
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                part.pop("quantization_config", None)
                part.pop("quantization", None)
                for key in ("dtype", "torch_dtype"):
                    if key in part and dtype is not None:
                        part[key] = dtype
    return _json(config | ({"quantization_config": settings} if settings else {}))


class FilesBeside:
    """The files of a model other than its weights and config.json.

    missing  what a GGUF file cannot give: a sentence, or None
    """

    def __init__(self, source: ModelSource) -> None:
        """Find them. Raises TokenizerError where a GGUF file's tokenizer is damaged or not known."""
        self._source = source
        self._written: dict[str, str] = {}
        self.missing: str | None = None
        if isinstance(source, GgufModel):
            metadata, path = source.file.metadata, source.path
            ids = special_ids(metadata, path) | {"eos_token_id": gguf_end_ids(metadata, path) or None}
            known = {key: value for key, value in ids.items() if value is not None}
            self._written, self.missing = gguf_tokenizer_files(metadata, path)
            self._written[GENERATION_FILE] = _json(known)

    def write(self, new: Path) -> None:
        """Write or copy them into a directory."""
        for file, content in self._written.items():
            (new / file).write_text(content, encoding="utf-8")
        if isinstance(self._source, GgufModel):
            return
        directory = self._source.path
        found = [*directory.glob("*"), *directory.glob("*/*")]
        files = small_files(path.relative_to(directory).as_posix() for path in found)
        for file in sorted(files - {CONFIG_FILE}):
            (new / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(file_inside(directory, file), new / file)


def _class_in_transformers(model_type: str) -> str:
    """Return the name of a model's class there, by which other programs choose theirs."""
    return OTHER_CLASSES.get(model_type, f"{model_class(model_type).__name__}ForCausalLM")


def _json(content: JsonObject) -> str:
    return json.dumps(content, indent=2) + "\n"
