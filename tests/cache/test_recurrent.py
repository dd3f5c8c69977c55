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


def test_two_arrays_take_turns() -> None:
    state = state_of(0)
    given, nbytes = state["ssm"], state.nbytes
    seen = []
    for token in range(1, 6):
        spare, before = state.spare("ssm"), state["ssm"].copy()
        spare[:] = -1  # a call that breaks off
        state.replace(ssm=spare, short=state["short"])
        np.testing.assert_array_equal(state["ssm"], before)
        assert state.spare("ssm") is spare
        spare[:] = token
        state.replace(ssm=spare, short=state["short"])
        state.commit()
        state.commit()  # Ctrl-C came between those of two layers
        assert state["ssm"] is spare
        seen.append(spare)
    assert (given == 0).all()  # an array that came from elsewhere is not written to
    assert len({id(array) for array in seen}) == 2
    assert state.nbytes == nbytes + given.nbytes


def test_copies_have_arrays_of_their_own() -> None:
    state = state_of(0, 1)
    for _ in range(2):
        state.replace(ssm=state.spare("ssm"), short=state["short"])
        state.commit()
    state.spare("ssm")[:], state["ssm"][:] = 7, 8
    for other in (state.select(np.arange(2)), RecurrentState.join([state, state])):
        assert (other["ssm"] == 8).all()
        for own in (other.spare("ssm"), other["ssm"]):
            assert not np.shares_memory(own, state.spare("ssm"))
            assert not np.shares_memory(own, state["ssm"])
    restored = state_of(0, 1)
    saved = {name: array.copy() for name, array in state.arrays(3).items()}
    for _ in range(3):
        restored.restore(state.arrays(3), 3)
        restored.spare("ssm")[:] = 9
        restored.replace(ssm=restored.spare("ssm"), short=restored["short"])
        restored.commit()
        restored.spare("ssm")[:] = 10
    for name, array in saved.items():
        np.testing.assert_array_equal(state[name], array)
    restored.restore(state.arrays(3), 3)
    for _ in range(2):
        state.spare("ssm")[:] = 11
        state.replace(ssm=state.spare("ssm"), short=state["short"])
        state.commit()
    np.testing.assert_array_equal(restored["ssm"], saved["ssm"])


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
