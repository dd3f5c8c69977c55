"""The errors of this package: each says what was found, where, and what to do.

The command line prints their message and nothing else; a traceback means a bug in this package.
"""


class TinyStarError(Exception):
    """Base of every error that is meant to be read by a person."""


class CheckpointError(TinyStarError):
    """A model's files are missing, damaged, or of different models."""


class ConfigError(TinyStarError):
    """config.json is contradictory, or needs something that is not implemented here."""


class HubError(TinyStarError):
    """A model could not be found on disk nor fetched from the hub."""


class TokenizerError(TinyStarError):
    """The tokenizer's files are missing or damaged."""


class InputError(TinyStarError, ValueError):
    """An argument of a call is out of its range: a token id, a shape, a sampling setting, an empty prompt."""


class ContextFullError(TinyStarError):
    """The model has no positions left for the given tokens."""


class QueueFullError(TinyStarError):
    """As many requests wait for an engine as may wait."""


class EngineClosedError(TinyStarError):
    """An engine takes no more requests, or has ended before a text was complete."""


class RequestTimeoutError(TinyStarError, TimeoutError):
    """A text was not complete in the time that its request allowed."""


class TooLargeError(InputError):
    """Processes cannot each have the whole model: the memory that is left does not suffice."""


class RanksError(TinyStarError):
    """Processes that share a model cannot go on together: one of them has failed, or MPI is missing."""


class NotRecordedError(TinyStarError, KeyError):
    """A recording has no array of this path."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError's own is in quotation marks


def words_of(error: Exception) -> str:
    """Say what is wrong: an error's own words where they are meant to be read."""
    if isinstance(error, TinyStarError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"There is not enough memory. {error}".rstrip()
    return f"{type(error).__name__}: {error}"
