"""GPT-Neo's own: two spellings of which layers have a window."""

from pathlib import Path

from parity import assert_close, logits_of, random_ids, reference_model, save
from transformers import AutoModelForCausalLM

from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "max_position_embeddings": 128,
    "window_size": 20,
    "attention_types": [[["global", "local"], 1], [["local"], 1]],
}


def test_the_default_turns(tmp_path: Path) -> None:
    """Neither spelling: twelve times global and local."""
    settings = {**SMALL, "num_layers": 24, "hidden_size": 8, "attention_types": None}
    reference = reference_model("gpt_neo", **settings)
    save(reference, tmp_path, attention_types=None, attention_layers=None)
    model, _ = load(tmp_path)
    assert model.config.kinds == ["global", "local"] * 12
    ids = random_ids(2, 70)
    assert_close(model(ids), logits_of(reference, ids))


def test_which_spelling_wins(tmp_path: Path) -> None:
    """Where the two contradict each other, transformers believes what is written out."""
    save(reference_model("gpt_neo", **SMALL), tmp_path, attention_layers=["local", "local", "global"])
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(again, ids))
