"""What a person writes to get an answer from transformers: the counterpart of ask-gpt2 in the benchmark.

python benchmarks/transformers_ask.py DIRECTORY DTYPE NEW_TOKENS PROMPT
"""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

directory, dtype, new, prompt = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
tokenizer = AutoTokenizer.from_pretrained(directory)
model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
inputs = tokenizer(prompt, return_tensors="pt")
# No early end: the benchmark counts on as many tokens as it asked for. generate turns gradients off.
out = model.generate(**inputs, do_sample=False, min_new_tokens=new, max_new_tokens=new, pad_token_id=0)
print(tokenizer.decode(out[0, inputs.input_ids.shape[1] :]))
