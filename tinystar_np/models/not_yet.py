"""Language models of transformers that do not run here: the nearest that does, and why not.

docs/model_types.md is written from this table and from the architectures that run; a test sees that every
``model_type`` of transformers' causal language models is in one of them.
"""

from collections.abc import Iterable, Mapping

from tinystar_np.checkpoints.json_file import shown

ENCODER = "an encoder, which reads in both directions; no decoder of it alone was published"
HALF = "the decoder of an encoder–decoder, trained to attend to an encoder's output"
SOUND = "reads or writes sound"
IMAGES = "reads or draws images, and its images are not read here"
BOTH_WAYS = (
    "its tokens see one another both ways, so that each new one changes all before it: no cache is exact"
)
ALIKE = "not written yet; its parts are here"
OTHERS = "a design of its own, not written yet"

ENCODERS = (
    "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta "
    "roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod"
)
HALVES = "bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart prophetnet trocr"

LONGEST_NAME = 60
"""Characters; what is longer is near to nothing, and comparing takes a while."""
NOT_YET: Mapping[str, tuple[str, str]] = {  # model_type: (nearest that runs, why)
    **dict.fromkeys(ENCODERS.split(), ("gpt2", ENCODER)),
    **dict.fromkeys(HALVES.split(), ("opt", HALF)),
    "whisper": ("opt", f"{HALF}, of sound"),
    "moshi": ("llama", SOUND),
    "moss_transcribe_diarize": ("qwen3", SOUND),
    "musicgen": ("opt", f"{HALF}; {SOUND}"),
    "musicgen_melody": ("opt", SOUND),
    "dots3_note": ("deepseek_v32", f"{SOUND}; its text part has windows and sparse attention in turns"),
    "dots3_note_text": ("deepseek_v32", "windows and sparse attention in turns, not written yet"),
    "phi4_multimodal": ("phi3", "reads images and sound through adapters of low rank"),
    "apertus1p5_text": ("apertus", ALIKE),
    "aria_text": ("mixtral", ALIKE),
    "emu3": ("llama", IMAGES),
    "git": ("gpt2", IMAGES),
    "got_ocr2": ("qwen2", IMAGES),
    "mllama": ("llama", f"{IMAGES}: whole layers attend to them"),
    "cohere_compass_text": ("cohere2", "a part of a model of images, not written yet"),
    "minimax_m3_vl_text": ("minimax_m2", "sparse attention by blocks, not written yet"),
    "axk1": ("deepseek_v3", ALIKE),
    "axk2": ("deepseek_v32", ALIKE),
    "beam": ("qwen3_moe", ALIKE),
    "cwm": ("llama", "written step by step in examples/adding_an_architecture.md, for you to add"),
    "dory": ("gemma2", ALIKE),
    "flint": ("qwen3_moe", ALIKE),
    "granitemoe_swa": ("granitemoeshared", ALIKE),
    "hy_v3": ("hunyuan_v1_moe", ALIKE),
    "hy_v4": ("deepseek_v4", ALIKE),
    "kolibri1": ("exaone4", ALIKE),
    "laguna": ("afmoe", ALIKE),
    "lara_mini": ("qwen3_next", ALIKE),
    "mellum": ("qwen3_moe", ALIKE),
    "mimo_v2_flash": ("gpt_oss", ALIKE),
    "qwen4_exp": ("qwen3_5_moe_text", OTHERS),
    "qwen4_exp_text": ("qwen3_5_moe_text", OTHERS),
    "sarvam_mla": ("deepseek_v3", ALIKE),
    "sarvam_moe": ("glm4_moe", ALIKE),
    "cpmant": ("gpt2", BOTH_WAYS),
    "doge": ("mixtral", OTHERS),
    "gemma4_assistant": ("gemma4_text", "drafts tokens for another model, from that model's cache"),
    "gemma4_unified": ("gemma4_text", OTHERS),
    "gemma4_unified_assistant": ("gemma4_text", "drafts tokens for another model, from that model's cache"),
    "gemma4_unified_text": ("gemma4_text", OTHERS),
    "inkling_text": ("llama4_text", OTHERS),
    "inkling2_text": ("llama4_text", OTHERS),
    "inkling2_loop_text": ("llama4_text", OTHERS),
    "reformer": ("gpt2", "attention within buckets of hashes, drawn by chance; reversible layers"),
    "xlm": ("gpt2", "an encoder of many languages, and a decoder only where its config says so"),
    "xlnet": ("gpt2", BOTH_WAYS),
    "zaya": ("llama", "convolutions within attention, not written yet"),
}


def refusal(model_type: str, known: Iterable[str]) -> str:
    """Say that a ``model_type`` is not implemented here, why, and which is nearest.

    known  every ``model_type`` that runs, and other names of them
    """
    nearest, why = NOT_YET.get(model_type, ("", ""))
    if not nearest and len(model_type) <= LONGEST_NAME:
        from difflib import get_close_matches  # late: models that run do not wait for it

        nearest, *_ = (*get_close_matches(model_type, known, n=1), "")
    because = f": {why}" if why else ""
    near = f"The nearest that runs is {nearest}. " if nearest else ""
    return (
        f"config.json says model_type {shown(model_type)}, which is not implemented here{because}.\n"
        f"{near}`tinystar models` lists all that run."
    )
