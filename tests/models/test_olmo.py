"""What is said of OLMo's norms: without parameters in the first, on the branches in the second."""

from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.hollow import hollow_model


def test_norms_without_parameters() -> None:
    model = hollow_model({"model_type": "olmo"})
    assert not any("norm" in name for name in model.weights)
    assert describe_model(model).parts["norms"].words == "LayerNorm without gain or bias, eps 1e-05"


def test_norms_on_the_branches() -> None:
    model = hollow_model({"model_type": "olmo2"})
    assert "norm" in describe_model(model).layers[0]["block"].words
