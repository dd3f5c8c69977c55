"""What a model is made of and what it costs, from its config and its layers, without running it."""
