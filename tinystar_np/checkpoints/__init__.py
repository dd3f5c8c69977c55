"""From files to arrays: find a model's directory, read its config.json, map its safetensors files."""
