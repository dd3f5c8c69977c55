"""The state of a recurrence: what waits, what is copied, what is saved."""

import numpy as np
import pytest

from tinystar_np.cache.recurrent import RecurrentState


def state_of(*rows: float) -> RecurrentState:
    """A state whose every row holds one number."""
    values = np.array(rows, dtype=np.float32)
    return RecurrentState(
        short=np.repeat(values[:, None], 3, axis=1), ssm=values[:, None, None] + np.zeros((1, 2, 2))
    )


def test_new_arrays_wait_for_the_commit() -> None:
    state, late, current = state_of(1, 2), state_of(5, 6), state_of(3, 4)
    bytes_before = state.nbytes
    state.replace(**late.arrays(0))
    assert state["short"][:, 0].tolist() == [1, 2]  # a call that broke off here has changed nothing
    state.replace(**current.arrays(0))
    state.commit()
    assert state["short"][:, 0].tolist() == [3, 4]
    assert state["ssm"][:, 1, 1].tolist() == [3, 4]
    assert state.nbytes == bytes_before
    state.commit()  # nothing waits
    assert state["short"][:, 0].tolist() == [3, 4]


def test_rows_are_chosen_and_joined_as_copies() -> None:
    state = state_of(1, 2, 3)
    chosen = state.select(np.array([2, 0]))
    joined = RecurrentState.join([chosen, state])
    assert joined["ssm"].shape == (5, 2, 2)
    assert joined["short"][:, 2].tolist() == [3, 1, 1, 2, 3]
    for other in (chosen, joined):
        for name, array in state.arrays(7).items():
            assert not np.shares_memory(other[name], array)


def test_saved_arrays_must_fit() -> None:
    state = state_of(1, 2)
    state.restore(state_of(8, 9).arrays(100), 100)
    assert state["ssm"][:, 0, 0].tolist() == [8, 9]
    for arrays in (
        state_of(1).arrays(0),
        {"short": state["short"]},
        {**state.arrays(0), "other": np.zeros(2)},
        {**state.arrays(0), "short": state["short"].astype(np.float64)},
    ):
        with pytest.raises(ValueError, match=r"arrays .* not "):
            state.restore(arrays, 1)
    assert state["ssm"][:, 0, 0].tolist() == [8, 9]
