"""Language models of transformers' text parts that it builds only within a whole model.

Registered, so that ``AutoModelForCausalLM`` builds them like any other: the text part is transformers' own,
and the output layer what the whole model has. Mistral 4's is transformers' own too, and only registered.
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.mistral4.configuration_mistral4 import Mistral4Config
from transformers.models.mistral4.modeling_mistral4 import Mistral4ForCausalLM
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLPreTrainedModel, Qwen2VLTextModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLPreTrainedModel, Qwen3VLTextModel
from transformers.models.qwen3_vl_moe.configuration_qwen3_vl_moe import Qwen3VLMoeTextConfig
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import (
    Qwen3VLMoePreTrainedModel,
    Qwen3VLMoeTextModel,
)


class TextAlone:
    """An output layer on a text part."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 — as transformers has it
    text: type[torch.nn.Module]

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        self.model = self.text(config)
        self.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self, input_ids: Any = None, logits_to_keep: int = 0, labels: Any = None, **given: Any
    ) -> CausalLMOutputWithPast:
        """Score every token of the vocabulary."""
        found = self.model(input_ids=input_ids, **given)
        logits = self.lm_head(found.last_hidden_state[:, -logits_to_keep:])
        return CausalLMOutputWithPast(
            logits=logits, cache=found.cache, hidden_states=found.hidden_states, attentions=found.attentions
        )


class Qwen2VLTextAlone(TextAlone, Qwen2VLPreTrainedModel, GenerationMixin):
    """Qwen2-VL's."""

    config: Qwen2VLTextConfig
    config_class = Qwen2VLTextConfig
    text = Qwen2VLTextModel


class Qwen3VLTextAlone(TextAlone, Qwen3VLPreTrainedModel, GenerationMixin):
    """Qwen3-VL's."""

    config: Qwen3VLTextConfig
    config_class = Qwen3VLTextConfig
    text = Qwen3VLTextModel


class Qwen3VLMoeTextAlone(TextAlone, Qwen3VLMoePreTrainedModel, GenerationMixin):
    """Qwen3-VL's with experts."""

    config: Qwen3VLMoeTextConfig
    config_class = Qwen3VLMoeTextConfig
    text = Qwen3VLMoeTextModel


for config_class in (Qwen2VLTextConfig, Qwen3VLTextConfig):
    config_class.tie_word_embeddings = False  # the whole model's config has it
AutoModelForCausalLM.register(Qwen2VLTextConfig, Qwen2VLTextAlone, exist_ok=True)
AutoModelForCausalLM.register(Qwen3VLTextConfig, Qwen3VLTextAlone, exist_ok=True)
AutoModelForCausalLM.register(Qwen3VLMoeTextConfig, Qwen3VLMoeTextAlone, exist_ok=True)
AutoModelForCausalLM.register(Mistral4Config, Mistral4ForCausalLM, exist_ok=True)
