"""Serving: the engine that many requests share, and the server that speaks OpenAI's interface."""
