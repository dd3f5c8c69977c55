"""One file per architecture, named as ``model_type`` in Hugging Face's config.json."""

from tinystar_np.models.base import Decoder
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.registry import (
    ARCHITECTURES,
    EMBEDDING_ARCHITECTURES,
    VISION_ARCHITECTURES,
    embedding_class,
    model_class,
    vision_class,
)

__all__ = [
    "ARCHITECTURES",
    "EMBEDDING_ARCHITECTURES",
    "VISION_ARCHITECTURES",
    "Decoder",
    "EmbeddingModel",
    "embedding_class",
    "model_class",
    "vision_class",
]
