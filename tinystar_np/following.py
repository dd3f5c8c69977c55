"""What ranks other than 0 do: they load their part of each model that rank 0 loads, and compute it."""

import signal
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from tinystar_np import __version__
from tinystar_np.checkpoints.files_inside import links_followed
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.dividing import Answer, Opened
from tinystar_np.errors import RanksError, TinyStarError, words_of
from tinystar_np.generation.copied import Copied
from tinystar_np.loading import load, model_config
from tinystar_np.models.base import in_silence
from tinystar_np.models.divided import Follower
from tinystar_np.models.text_part import text_config, text_tensors
from tinystar_np.ranks import PROMPTS, Part
from tinystar_np.ranks.cores import take_threads
from tinystar_np.ranks.mpi import MpiRanks
from tinystar_np.ranks.ranks import RanksEndedError


@in_silence
def follow(ranks: MpiRanks) -> None:
    """Do what rank 0 says until it ends: load a part of each model that it loads, and compute that part.

    To be called on all ranks but 0. Nothing is printed, and Ctrl-C is left to rank 0.
    """
    followed = _Followed(ranks)
    with _no_ctrl_c():
        try:
            while True:
                number, waiting, message = ranks.receive(0)
                followed.do(number, waiting, message)
        except RanksEndedError:
            return
        except Exception as error:
            fault = RanksError(f"Rank {ranks.rank} on {ranks.hosts[ranks.rank]}: {words_of(error)}")
            fault.add_note(f"There:\n{traceback.format_exc()}")  # shown with a traceback alone
            ranks.fail(fault)


class _Follower(Follower):
    """A follower that is asked what it has, too."""

    def held(self) -> None:
        """Say what this process has of the model."""
        from tinystar_np.inspection.held import held_by  # late: most commands do not ask

        self.ranks.send(held_by(self.model), to=0)


class _Followed:
    """The models that ranks share, as a follower has them.

    ranks  all ranks
    """

    def __init__(self, ranks: MpiRanks):
        self.ranks = ranks
        self.opened: dict[int, Opened] = {}
        self.models: dict[int, Follower | Copied] = {}

    def do(self, number: int, waiting: Sequence[tuple[Any, ...]], message: tuple[Any, ...]) -> None:
        """Do what a message says of the model with this number."""
        what, *how = message
        if what == "load":
            self._answer(self._load, number, *how)
        elif what == "build":
            self._answer(self._build, number, *how)
        elif what == "copy":
            self._answer(self._copy, number, *how)
        elif what == "unload":
            self._unload([number])
        else:
            self.models[number].do(waiting, message)

    def _answer(self, action: Any, *how: Any) -> None:
        """Do something that may fail, and send what is found, or what is wrong."""
        try:
            with warnings.catch_warnings(action="ignore"):  # rank 0 says them
                answer = Answer("", action(*how))
        except (TinyStarError, MemoryError) as error:
            answer = Answer(words_of(error))
        self.ranks.send(answer, to=0)

    def _load(
        self, number: int, version: str, where: dict[str, Any], gone: Sequence[int], threads: int | None
    ) -> str:
        self._unload(gone)
        if version != __version__:
            raise RanksError(f"it has tinystar_np {__version__}, and rank 0 has {version}. Install the same.")
        if threads is not None:
            take_threads(threads)
        follows = where.pop("follow_links")
        with links_followed() if follows else nullcontext():
            source = open_source(find_model(**where))
            raw = text_config(source.config)
            architecture, config = model_config(source, raw)
            checkpoint = text_tensors(source.checkpoint(raw), source.config)
        self.opened[number] = opened = Opened(architecture, config, checkpoint)
        return opened.fingerprint()

    def _build(
        self, number: int, way: str, layers: Sequence[range] | None, dtype: str, in_memory: bool
    ) -> str:
        architecture, config, checkpoint = self.opened.pop(number)
        self.ranks.share_cores(way)
        part = Part(self.ranks, layers, number)
        model = architecture.from_checkpoint(config, checkpoint, (), dtype, part)
        if in_memory:
            model.move_into_memory()
        self.models[number] = _Follower(model, part)
        return ""

    def _copy(self, number: int, where: dict[str, Any]) -> str:
        del self.opened[number]
        self.ranks.share_cores(PROMPTS)
        model, tokenizer = load(**where)
        self.models[number] = Copied(model, tokenizer, self.ranks)
        return ""

    def _unload(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.opened.pop(number, None)
            self.models.pop(number, None)


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C inside the ``with`` block: rank 0 decides what it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
