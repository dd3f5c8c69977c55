"""Tokenizer classes: the rules that a vocab.json leaves open, mainly how a text is cut into words.

Byte-level BPE merges within words, never across their borders, so that the same `vocab.json` and `merges.txt`
give other tokens where the words are others. GPT-2 keeps the digits of a number together, Qwen2 separates
them and joins line ends with the punctuation before them, CLIP converts to lower case:

    GPT2Tokenizer     "In 2024.⏎"  →  In | Ġ2024 | . | Ċ
    Qwen2Tokenizer    "In 2024.⏎"  →  In | Ġ | 2 | 0 | 2 | 4 | .Ċ

The files beside them name the class, and the rules here are those of transformers 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.decoders import Decoder
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from tinystar_np.text.tokenizer_settings import TokenizerSettings

Tokens = list[tuple[int, str]]  # with their ids

END_OF_TEXT = "<|endoftext|>"

# Contractions, words, single digits, punctuation with the line ends after it, line ends, other space.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# In Qwen3.5 marks belong to the letters that they stand on.
QWEN3_5_WORDS = QWEN2_WORDS.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(
    r"\s\p{L}\p{N}]", r"\s\p{L}\p{M}\p{N}]"
)
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _words(*before: PreTokenizer, gpt2: bool = True) -> Callable[[bool], PreTokenizer]:
    """Cut a text by some rules and then as GPT-2 does, or by these rules alone."""
    return lambda prefix: pre_tokenizers.Sequence(
        [*before, pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=gpt2)]
    )


GPT2_WORDS = _words()


def _clip_words(prefix: bool) -> PreTokenizer:
    return _words(pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True))(False)


def _clip_decoder() -> Decoder:
    ends = [decoders.Replace("</w>", " "), decoders.Replace(Regex(r"^\s+|\s+$"), "")]
    return decoders.Sequence([decoders.ByteLevel(), *ends])


def _clip_normalizer() -> Normalizer:
    space = normalizers.Replace(Regex(r"\s+"), " ")
    return normalizers.Sequence([normalizers.NFC(), space, normalizers.Lowercase()])


def _gpt_words(prefix: bool) -> PreTokenizer:
    return pre_tokenizers.BertPreTokenizer()


def _gpt_decoder() -> Decoder:
    return decoders.BPEDecoder(suffix="</w>")


def _gpt_normalizer() -> Normalizer:
    return normalizers.BertNormalizer(lowercase=True)


@dataclass(frozen=True)
class TokenizerClass:
    """The rules of one class.

    special_tokens      {role: token} where the files name none
    words               makes the pre-tokenizer; the argument is whether a space is put before the text
    normalizer          makes the normalizer; None for none
    decoder             makes the decoder
    around              roles or tokens before and after every text, whatever add_bos_token says
    unknown             the role of the token for characters not in the vocabulary; "" leaves them out
    end_of_word_suffix  the end of the last token of every word
    """

    special_tokens: Mapping[str, str]
    words: Callable[[bool], PreTokenizer] = GPT2_WORDS
    normalizer: Callable[[], Normalizer] | None = None
    decoder: Callable[[], Decoder] = decoders.ByteLevel
    around: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    unknown: str = ""
    end_of_word_suffix: str = ""

    def build(
        self,
        vocab: dict[str, int],
        merges: list[tuple[str, str]],
        added: Mapping[int, AddedToken],
        settings: TokenizerSettings,
    ) -> Tokenizer:
        """Build a tokenizer from a vocabulary, its merges and added tokens."""
        vocab = vocab | {token.content: id for id, token in added.items()}
        special = settings.special_tokens
        backend = Tokenizer(models.BPE(vocab, merges, end_of_word_suffix=self.end_of_word_suffix))
        if special.get(self.unknown) in vocab:
            backend.model.unk_token = special[self.unknown]
        if self.normalizer is not None:
            backend.normalizer = self.normalizer()
        backend.pre_tokenizer = self.words(settings.add_prefix_space is True)
        backend.decoder = self.decoder()
        backend.add_tokens(list(added.values()))
        begin, end = self.around or (
            ("bos_token",) if settings.add_bos else (),
            ("eos_token",) if settings.add_eos else (),
        )
        set_ends(
            backend,
            with_ids(backend, *(special.get(one, one) for one in begin)),
            with_ids(backend, *(special.get(one, one) for one in end)),
        )
        backend.encode_special_tokens = settings.split_special_tokens
        return backend


def set_ends(backend: Tokenizer, begin: Tokens, end: Tokens) -> None:
    """Set the tokens that begin and end every text."""
    names = {f"begin{i}": one for i, one in enumerate(begin)} | {f"end{i}": one for i, one in enumerate(end)}
    backend.post_processor = processors.TemplateProcessing(
        single=[*list(names)[: len(begin)], "$A", *list(names)[len(begin) :]],
        special_tokens=[{"id": name, "ids": [id], "tokens": [token]} for name, (id, token) in names.items()],
    )


def with_ids(backend: Tokenizer, *tokens: str | None) -> Tokens:
    """Pair tokens with their ids; those not in the vocabulary are left out."""
    ids = [(None if token is None else backend.token_to_id(token), token) for token in tokens]
    return [(id, token) for id, token in ids if id is not None and token is not None]


GPT2 = TokenizerClass(dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT))
ROBERTA = TokenizerClass(
    {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    around=(("cls_token",), ("sep_token",)),
)

CLASSES: Mapping[str, TokenizerClass] = {
    "GPT2Tokenizer": GPT2,
    "CodeGenTokenizer": GPT2,
    "GPTNeoXTokenizer": TokenizerClass(
        {**GPT2.special_tokens, "pad_token": "<|padding|>"}, normalizer=normalizers.NFC
    ),
    "Qwen2Tokenizer": TokenizerClass(
        dict.fromkeys(("eos_token", "unk_token", "pad_token"), END_OF_TEXT),
        _words(pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"), gpt2=False),
        normalizers.NFC,
    ),
    "Qwen3_5Tokenizer": TokenizerClass(
        dict.fromkeys(("eos_token", "unk_token", "pad_token"), END_OF_TEXT),
        _words(pre_tokenizers.Split(Regex(QWEN3_5_WORDS), "isolated"), gpt2=False),
        normalizers.NFC,
    ),
    "CohereTokenizer": TokenizerClass(
        {
            "bos_token": "<BOS_TOKEN>",
            "eos_token": "<|END_OF_TURN_TOKEN|>",
            "unk_token": "<UNK>",
            "pad_token": "<PAD>",
            "cls_token": "<CLS>",
            "sep_token": "<SEP>",
            "mask_token": "<MASK_TOKEN>",
        },
        _words(pre_tokenizers.Digits(individual_digits=True)),
        normalizers.NFC,
    ),
    **dict.fromkeys(
        ("RobertaTokenizer", "BartTokenizer", "LEDTokenizer", "LongformerTokenizer", "MvpTokenizer"), ROBERTA
    ),
    "WhisperTokenizer": TokenizerClass(
        GPT2.special_tokens, around=(("<|startoftranscript|>", "<|notimestamps|>"), ("eos_token",))
    ),
    "CLIPTokenizer": TokenizerClass(
        {
            **dict.fromkeys(("eos_token", "unk_token", "pad_token"), END_OF_TEXT),
            "bos_token": "<|startoftext|>",
        },
        _clip_words,
        _clip_normalizer,
        _clip_decoder,
        around=(("bos_token",), ("eos_token",)),
        unknown="unk_token",
        end_of_word_suffix="</w>",
    ),
    "OpenAIGPTTokenizer": TokenizerClass(
        {"unk_token": "<unk>"},
        _gpt_words,
        _gpt_normalizer,
        _gpt_decoder,
        unknown="unk_token",
        end_of_word_suffix="</w>",
    ),
}

# The class by config.json's model_type, where no file names one.
MODEL_TYPES = {
    "BartTokenizer": ("bart",),
    "BioGptTokenizer": ("biogpt",),
    "CLIPTokenizer": ("clip",),
    "CTRLTokenizer": ("ctrl",),
    "CohereTokenizer": ("cohere", "cohere2"),
    "GPT2Tokenizer": ("codegen", "dbrx", "gpt2", "gpt_neo", "gptj", "opt", "phi", "starcoder2"),
    "GPTNeoXTokenizer": ("falcon_mamba", "gpt_neox", "mamba", "mamba2", "mpt", "olmo", "olmoe"),
    "OpenAIGPTTokenizer": ("openai-gpt",),
    "Qwen2Tokenizer": ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"),
    "Qwen3_5Tokenizer": ("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"),
    "RobertaTokenizer": ("roberta",),
    "WhisperTokenizer": ("whisper",),
}
OF_MODEL_TYPE = {model_type: name for name, types in MODEL_TYPES.items() for model_type in types}

# For these the class that files name is ignored, as in transformers 5: models derived from them name
# LlamaTokenizer and other classes that only a tokenizer.json makes sense of.
KNOWN_BETTER = ("qwen2", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text")


# Their files may name GPT2Tokenizer, but numbers are cut in another way, which only a tokenizer.json says.
# transformers 5 reads nothing else for these.
ONLY_TOKENIZER_JSON = (
    *("gpt_bigcode", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared", "mistral", "mixtral"),
    *("olmo2", "olmo3", "phi3", "stablelm"),
)


def class_name(stated: str | None, model_type: str | None) -> str | None:
    """Find the name of a tokenizer's class, as transformers 5 does.

    stated      the class that tokenizer_config.json names, or else config.json
    model_type  config.json's

    Returns its name without "Fast" at the end; GPT-2's where no file says anything, as in its first release;
    None where the model type implies no class, or a class without rules of its own.
    """
    if model_type in ONLY_TOKENIZER_JSON:
        return None
    if model_type in KNOWN_BETTER or not stated:
        return "GPT2Tokenizer" if model_type is None else OF_MODEL_TYPE.get(model_type)
    return stated.removesuffix("Fast")


def default_tokens(name: str) -> Mapping[str, str]:
    """Return {role: token} of a class, its defaults where the files have none."""
    if name in CLASSES:
        return CLASSES[name].special_tokens
    return dict(zip(("bos_token", "eos_token"), SENTENCEPIECE_ENDS.get(name, ()), strict=False))


# With a tokenizer.json these ignore add_bos_token and add_eos_token, both in transformers 4 and in 5.
ENDS_IN_TOKENIZER_JSON = frozenset(
    {*CLASSES, "BloomTokenizer", "PreTrainedTokenizer", "TokenizersBackend"}
    - {"CohereTokenizer", "GPTNeoXTokenizer"}
)
# For these a missing add_bos_token is false, whatever the tokenizer.json says.
ENDS_FALSE_IF_MISSING = frozenset({"GPTNeoXTokenizer"})

# The default bos_token and eos_token of further classes; those above have theirs in TokenizerClass.
SENTENCEPIECE_ENDS: Mapping[str, tuple[str, str]] = {
    "LlamaTokenizer": ("<s>", "</s>"),
    "CodeLlamaTokenizer": ("<s>", "</s>"),
    "GemmaTokenizer": ("<bos>", "<eos>"),
}
