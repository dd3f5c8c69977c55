"""Loading a model that several ranks share: who has what, and whether all have the same files.

Rank 0 calls ``divided_model``; the others follow (following.py). First all open the files, and each tells
rank 0 a fingerprint of them; then each builds its part, and tells that it has.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import count
from math import prod
from typing import Any, NamedTuple

from tinystar_np import __version__
from tinystar_np.amounts import counted
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import FittedTable
from tinystar_np.checkpoints.stored_matrix import ROUNDED, keeps_type
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD, Row
from tinystar_np.errors import CheckpointError, InputError, RanksError, TooLargeError
from tinystar_np.fast.machine import usable_memory
from tinystar_np.models import Decoder
from tinystar_np.models.config import Config
from tinystar_np.models.fitted import fitted
from tinystar_np.ranks import AUTO, PARALLEL, PROMPTS, Part, Team, layers_of_ranks
from tinystar_np.ranks.cores import threads_asked_for
from tinystar_np.ranks.mpi import MpiRanks
from tinystar_np.ranks.part import LAYER

BYTES = {"float32": 4, "auto": 4, "bfloat16": 2, "int8": 1}
"""Of a number that does not keep the type that it has in the file."""

numbers = count()  # of models
_gone: list[int] = []  # the numbers of models that are used no more


class Answer(NamedTuple):
    """What a follower answers while it loads a model.

    fault  what is wrong, in a sentence; "" where nothing is
    found  a fingerprint of the files, where it has opened them
    """

    fault: str
    found: str = ""


class Opened(NamedTuple):
    """A model's files, opened.

    architecture  its class
    config        its config
    checkpoint    its weights
    """

    architecture: type[Decoder]
    config: Config
    checkpoint: Checkpoint

    def fingerprint(self) -> str:
        """Tell these files from others."""
        about = f"{self.architecture.__name__} {self.config!r} {self.checkpoint.fingerprint()}"
        return sha256(about.encode()).hexdigest()


def divided_model(
    opened: Opened,
    end_ids: Sequence[int],
    dtype: str,
    *,
    ranks: MpiRanks,
    parallel: str,
    where: Mapping[str, Any],
    in_memory: bool,
    isolated: bool,
    beside: int,
) -> Decoder:
    """Load a model that all ranks share; called on rank 0.

    dtype, in_memory, isolated  see ``load``
    parallel   how it is divided: "layers", "heads", or "auto": by heads where all ranks are on one machine
               and the model can be divided so; "prompts" where it is not, but the texts
    where      arguments of ``find_model``, by which each rank finds the files, and whether links are followed
    beside     bytes that rank 0 holds besides the model's weights

    Raises InputError where it cannot be divided so, CheckpointError where a rank has other files, RanksError
    where one cannot load its part.
    """
    if parallel not in (AUTO, *PARALLEL):
        raise InputError(f"parallel = {parallel!r}, but it must be one of {', '.join((AUTO, *PARALLEL))}.")

    if parallel == PROMPTS:
        return _copied(opened, end_ids, dtype, ranks, where, in_memory, isolated)

    def by(layers: Sequence[range] | None) -> Decoder:
        return _load(opened, end_ids, dtype, Part(ranks, layers, next(numbers)), where, in_memory)

    if parallel == "heads" or (parallel == AUTO and len(set(ranks.hosts)) == 1):
        try:
            return by(None)
        except InputError:  # some have too few heads
            if parallel == "heads":
                raise
    config, table = fitted(opened.architecture, opened.config, opened.checkpoint)
    of_layers, of_leader = bytes_of_layers(opened.checkpoint, table, config.sizes["L"], dtype)
    for layer, home in config.home.items():
        if home != layer:  # it runs with that one's weights, wherever it is
            of_layers[layer] += of_layers[home]
    return by(layers_of_ranks(of_layers, of_leader + beside, ranks.size))


def _load(
    opened: Opened, end_ids: Sequence[int], dtype: str, part: Part, where: Mapping[str, Any], in_memory: bool
) -> Decoder:
    """Let each rank load its part; arguments as of ``divided_model``."""
    way = "heads" if part.layers is None else "layers"
    assert part.team is not None

    def build() -> Decoder:
        return opened.architecture.from_checkpoint(opened.config, opened.checkpoint, end_ids, dtype, part)

    return _built(opened, part.team, where, build, way, ("build", way, part.layers, dtype, in_memory))


def _copied(
    opened: Opened,
    end_ids: Sequence[int],
    dtype: str,
    ranks: MpiRanks,
    where: Mapping[str, Any],
    in_memory: bool,
    isolated: bool,
) -> Decoder:
    """Let each rank load the whole model; arguments as of ``divided_model``."""
    raise_unless_each_fits(opened, dtype, ranks, in_memory)
    team = Team(ranks, next(numbers))

    def build() -> Decoder:
        return opened.architecture.from_checkpoint(opened.config, opened.checkpoint, end_ids, dtype)

    its_own = {**where, "dtype": dtype, "in_memory": in_memory, "isolated": isolated}
    model = _built(opened, team, where, build, PROMPTS, ("copy", its_own))
    model.copies = team
    return model


def raise_unless_each_fits(opened: Opened, dtype: str, ranks: MpiRanks, in_memory: bool) -> None:
    """Raise TooLargeError where the ranks of rank 0's machine cannot each have the whole model in memory.

    Processes that map the same file have it in memory once.
    """
    table = fitted(opened.architecture, opened.config, opened.checkpoint)[1]
    here = ranks.hosts.count(ranks.hosts[0])
    needed = 0
    for name, rows in table.tensors.items():
        for row in rows:
            nbytes, is_mapped = _bytes_kept(opened.checkpoint, name, row, dtype)
            needed += nbytes if is_mapped and not in_memory else nbytes * here
    free = usable_memory()
    if free is not None and needed > free:
        raise TooLargeError(
            f"{counted(here, 'rank')} with the whole model each need {needed / 1e9:.1f} GB on "
            f"{ranks.hosts[0]}, which has {free / 1e9:.1f} GB of memory left.\n"
            'Divide the model: --parallel layers, or parallel="layers".'
        )


def _built(
    opened: Opened,
    team: Team,
    where: Mapping[str, Any],
    build: Callable[[], Decoder],
    way: str,
    others: tuple[Any, ...],
) -> Decoder:
    """Let each rank open the files, and then load its part; returns rank 0's.

    build   makes it
    way     how the ranks share
    others  what the others are told to make theirs
    """
    ranks = team.ranks
    assert isinstance(ranks, MpiRanks)
    gone, _gone[:] = tuple(_gone), []
    found = _agreed(team, team.ask("load", __version__, dict(where), gone, threads_asked_for()))
    own = opened.fingerprint()
    for rank, fingerprint in enumerate(found, start=1):
        if fingerprint != own:
            team.tell("unload")
            raise CheckpointError(
                f"Rank {rank} on {ranks.hosts[rank]} has other files of {where['name']} than rank 0 on "
                f"{ranks.hosts[0]}: other weights, or another config.json.\n"
                "Copy the files from one to the other."
            )
    team.tell(*others)
    fault: BaseException | None = None
    try:
        ranks.share_cores(way)
        model = build()
    except BaseException as error:  # Ctrl-C, too: what the others answer must be read before it ends this
        fault = error
    answers = team.answers()
    if fault is not None:
        team.tell("unload")
        raise fault
    _agreed(team, answers)
    weakref.finalize(model, _gone.append, team.number).atexit = False
    return model


def _agreed(team: Team, answers: Sequence[Answer]) -> list[str]:
    """Return what all followers have found; raises RanksError where one could not, and lets all forget it."""
    for rank, answer in enumerate(answers, start=1):
        if answer.fault:
            with suppress(RanksError):
                team.tell("unload")
            raise RanksError(f"Rank {rank} on {team.ranks.hosts[rank]}: {answer.fault}")
    return [answer.found for answer in answers]


def bytes_of_layers(
    checkpoint: Checkpoint, table: FittedTable, layers: int, dtype: str
) -> tuple[list[int], int]:
    """Return how many bytes of memory the weights of each layer take, and those of rank 0 alone.

    An embedding that is no output layer is looked up in the mapped file, a row for each token, and hardly
    counts where it keeps its type.
    """
    of_layers, of_leader = [0] * layers, 0
    is_tied = HEAD not in table.rows
    for name, its_rows in table.tensors.items():
        for row in its_rows:
            found = LAYER.match(row.ours)
            nbytes, is_mapped = _bytes_kept(checkpoint, name, row, dtype)
            if found is not None:
                of_layers[int(found[1])] += nbytes
            elif row.ours != EMBEDDING or is_tied or not is_mapped:
                of_leader += nbytes
    return of_layers, of_leader


def _bytes_kept(checkpoint: Checkpoint, name: str, row: Row, dtype: str) -> tuple[int, bool]:
    """Return how many bytes one row of a weight table takes in memory, and whether they are the file's."""
    many, in_file = prod(row.shape), prod(checkpoint.shape(name))
    is_rounded = row.is_matrix and dtype in ROUNDED
    if checkpoint.packed(name) is not None:
        keeps = row.is_matrix and dtype == "auto"
    else:
        keeps = row.is_matrix and keeps_type(checkpoint, name, dtype, row.is_by_rows)
        keeps = keeps or (checkpoint.element_type(name) == "F32" and not is_rounded)
    if keeps:
        return checkpoint.nbytes_of(name) * many // max(in_file, 1), True
    return many * (BYTES[dtype] if is_rounded else BYTES["float32"]), False
