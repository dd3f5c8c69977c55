"""How known families cut a text into words before they merge: regular expressions, applied one after another.

Byte-level BPE merges within words only. Each expression of a family cuts every piece that the ones before it
left into its matches and what is between them:

    DIGITS_APART   "In 2024."  →  "In " "2" "0" "2" "4" "."  →  "In" " " "2" "0" "2" "4" "."

These are the expressions of the makers' own tokenizer.json, or for tiktoken's files of their source text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from tinystar_np.text.tokenizer_classes import QWEN2_WORDS, QWEN3_5_WORDS

Expressions = tuple[str, ...]

SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT_FORMS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PUNCTUATION_WITH_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
O200K_WORDS = (
    f"{UPPER}*{LOWER}+{SHORT_FORMS}?|{UPPER}+{LOWER}*{SHORT_FORMS}?|\\p{{N}}{{1,3}}"
    f"{PUNCTUATION_WITH_SLASH}{SPACES}"
)
TEKKEN_WORDS = f"{UPPER}*{LOWER}+|{UPPER}+{LOWER}*|\\p{{N}}{PUNCTUATION_WITH_SLASH}{SPACES}"
BLOOM_WORDS = " ?[^(\\s|[.,!?…。，、।۔،])]+"
DEEPSEEK_V3_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*{SPACES}"
)
# Latin, Greek, Cyrillic and other letters with case, as DeepSeek's first models list them.
DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"
    "\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
CHINESE = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
CHINESE_AND_KANA = "[\u4e00-\u9fa5\u3040-\u30ff]+"

DIGIT, DIGITS, THREE_DIGITS = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"


class Rules(NamedTuple):
    """How a byte-level BPE tokenizer treats a text.

    expressions    that cut it into words
    whole_words    whether a word that is a token becomes that token, however the merges would go
    adds_bos       whether a text begins with bos_token where the file does not say
    """

    expressions: Expressions
    whole_words: bool = False
    adds_bos: bool = False


GPT2 = Rules((GPT2_WORDS,))
DIGITS_APART = Rules((DIGIT, GPT2_WORDS))
LLAMA3 = Rules((CL100K_WORDS,), whole_words=True, adds_bos=True)
CL100K = Rules((CL100K_WORDS,))
QWEN2 = Rules((QWEN2_WORDS,))
O200K = Rules((O200K_WORDS,))
BLOOM = Rules((BLOOM_WORDS,))
DEEPSEEK_V3 = Rules((THREE_DIGITS, CHINESE_AND_KANA, DEEPSEEK_V3_WORDS))
BAILING = Rules(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
        r"|\s+(?!\S)|\s+",
    )
)
PUNCTUATION = r"[\p{P}$+<=>^~|]+"

# Rules by the names that llama.cpp gives them in the key tokenizer.ggml.pre, with the names that share them.
NAMES: Sequence[tuple[Rules, tuple[str, ...]]] = (
    (Rules((PUNCTUATION, GPT2_WORDS, DIGITS, "[0-9][0-9][0-9]")), ("default", "")),
    (
        GPT2,
        (
            *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat"),
            *("a.x-4.0", "mellum", "modern-bert", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"),
        ),
    ),
    (
        DIGITS_APART,
        (
            *("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"),
            "mellum2",
        ),
    ),
    (
        LLAMA3,
        (
            *("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
            "jina-v5-nano",
        ),
    ),
    (CL100K, ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe")),
    (
        QWEN2,
        (
            *("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open", "grok-2", "kormo"),
            "f2llmv2",
        ),
    ),
    (Rules((QWEN3_5_WORDS,)), ("qwen35",)),
    (Rules((QWEN2_WORDS.removeprefix(f"{SHORT_FORMS}|"),)), ("ufakzeka",)),
    (Rules((r"[^\n]+|\n+", QWEN2_WORDS)), ("laguna",)),
    (
        Rules((THREE_DIGITS, QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}+|")), whole_words=True),
        ("minicpm5",),
    ),
    (Rules((TEKKEN_WORDS,), whole_words=True, adds_bos=True), ("tekken",)),
    (O200K, ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2")),
    (
        Rules(
            (
                "[\r\n]",
                rf"\s?[{DEEPSEEK_LETTERS}]+",
                "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                r"\s+$",
                CHINESE,
                DIGITS,
            )
        ),
        ("deepseek-llm",),
    ),
    (Rules(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE, DIGIT)), ("deepseek-coder",)),
    (DEEPSEEK_V3, ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4")),
    (Rules((r"[\p{P}$+<=>^~|`]+", GPT2_WORDS, "[0-9][0-9][0-9]")), ("falcon",)),
    (BLOOM, ("bloom", "poro-chat", "gpt3-finnish")),
    (Rules((*BLOOM.expressions, DIGIT)), ("viking",)),
    (BAILING, ("bailingmoe", "bailingmoe2", "llada-moe")),
    (
        Rules((rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+{SPACES}",)),
        ("seed-coder",),
    ),
    (
        Rules(
            (
                rf"{SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        ("exaone-moe",),
    ),
)
BY_NAME = {name: rules for rules, names in NAMES for name in names}


def cut_by(expressions: Sequence[str]) -> PreTokenizer:
    """Make the pre-tokenizer that cuts a text by expressions and writes its words as bytes."""
    cuts = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in expressions]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
