"""Which file of a repository a type means: names as real repositories have them."""

import pytest

from tinystar_np.checkpoints.gguf_choice import choose, gguf_labels, has_gguf_alone, parts_of
from tinystar_np.errors import HubError

DOTS = [f"tinyllama-1.1b-chat-v1.0.{kind}.gguf" for kind in ("Q2_K", "Q4_0", "Q4_K_M", "Q4_K_S", "Q8_0")]
LOWER = [f"qwen2.5-0.5b-instruct-{kind}.gguf" for kind in ("fp16", "q4_0", "q4_k_m", "q8_0")]
FOLDERS = [
    *(f"BF16/Large-2507-BF16-0000{i}-of-00003.gguf" for i in (1, 2, 3)),
    *(f"UD-Q4_K_XL/Large-2507-UD-Q4_K_XL-0000{i}-of-00002.gguf" for i in (1, 2)),
    *(f"Q4_K_M/large-0000{i}-of-00002.gguf" for i in (1, 2)),
    "Large-2507-IQ4_NL.gguf",
    "Large-2507-UD-IQ1_M.gguf",
    "imatrix_unsloth.gguf",
    "mmproj-BF16.gguf",
]
TWO = ["big-Q4_K_M.gguf", "small-Q4_K_M.gguf", "small-Q8_0.gguf"]
ALL_ELSE = ["README.md", "config.json", "model.Q4_K_M.bin", "Q4_K_M/notes.txt"]


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (DOTS, "Q4_K_M", DOTS[2]),
        (DOTS, "q4_k_s", DOTS[3]),
        (DOTS, "Q2_K", DOTS[0]),
        (DOTS, None, DOTS[2]),
        (DOTS, "tinyllama-1.1b-chat-v1.0.Q8_0.gguf", DOTS[4]),
        (LOWER, "Q8_0", LOWER[3]),
        (LOWER, "FP16", LOWER[0]),
        (LOWER, None, LOWER[2]),
        (FOLDERS, "bf16", FOLDERS[0]),
        (FOLDERS, "UD-Q4_K_XL", FOLDERS[3]),
        (FOLDERS, "Q4_K_XL", FOLDERS[3]),
        (FOLDERS, "Large-2507-UD-Q4_K_XL-00001-of-00002.gguf", FOLDERS[3]),
        (FOLDERS, "Q4_K_M", FOLDERS[5]),
        (FOLDERS, "iq4_nl", FOLDERS[7]),
        (FOLDERS, "IQ1_M", FOLDERS[8]),
        (TWO, "small-Q4_K_M", TWO[1]),
        (TWO, "big", TWO[0]),
        (["gpt-oss-20b-mxfp4.gguf"], "MXFP4", "gpt-oss-20b-mxfp4.gguf"),
        (["Model-Q4_K_M.gguf", "Model-UD-Q4_K_M.gguf"], "Q4_K_M", "Model-Q4_K_M.gguf"),
        (["a/model.gguf", "b/model.gguf"], "b-model", "b/model.gguf"),
        (["ggml-model-i2_s.gguf"], "i2_s", "ggml-model-i2_s.gguf"),
        (["only-IQ2_XXS.gguf", "mmproj-F16.gguf"], None, "only-IQ2_XXS.gguf"),
    ],
)
def test_what_is_meant(names: list[str], wanted: str | None, expected: str) -> None:
    assert choose("owner/model", [*ALL_ELSE, *names], wanted) == expected


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (DOTS, "Q4_K", "has no GGUF file that is Q4_K.\nAsk for one as owner/model:Q2_K. It has Q2_K, "),
        (DOTS, "4_K_M", "has no GGUF file that is 4_K_M.\n"),
        (DOTS, "Q8_0\x1b[2J", r"has no GGUF file that is Q8_0\x1b[2J."),
        (LOWER[:2], None, "has 2 GGUF files, and none that is Q4_K_M.\nAsk for one as owner/model:FP16. "),
        (TWO, "Q4_K_M", "has 2 GGUF files that are Q4_K_M.\nAsk for one as owner/model:big-Q4_K_M. It "),
        (TWO, None, "has 2 GGUF files that are Q4_K_M.\nAsk for one"),
        (FOLDERS, "F16", "has no GGUF file that is F16.\n"),  # but of what is for pictures
        ([], "Q4_K_M", "has no GGUF files.\n"),
    ],
)
def test_what_is_not(names: list[str], wanted: str | None, expected: str) -> None:
    with pytest.raises(HubError) as caught:
        choose("owner/model", [*ALL_ELSE, *names], wanted)
    assert f"owner/model {expected}" in str(caught.value)


@pytest.mark.parametrize("names", [DOTS, LOWER, FOLDERS, TWO, ["a/b-c.gguf", "a-b/d.gguf", "Q4_0.gguf"]])
def test_labels_mean_their_files(names: list[str]) -> None:
    labels = gguf_labels(names)
    assert {choose("owner/model", names, label): label for label in labels.values()} == labels


def test_what_cannot_be_told_apart() -> None:
    assert set(gguf_labels(["a/b.gguf", "a-b.gguf"]).values()) == {None}
    with pytest.raises(HubError, match=r"It has a-b.gguf, a/b.gguf"):
        choose("owner/model", ["a/b.gguf", "a-b.gguf"], "a-b")


def test_parts() -> None:
    assert list(parts_of(FOLDERS[0])) == FOLDERS[:3]
    assert list(parts_of(TWO[0])) == TWO[:1]


def test_repositories_that_have_both() -> None:
    assert has_gguf_alone([*TWO, *ALL_ELSE])
    assert not has_gguf_alone([*TWO, "model.safetensors"])
    assert not has_gguf_alone(["mmproj-F16.gguf", *ALL_ELSE])
