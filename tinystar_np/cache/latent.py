"""TEMPORARY: for layers_old."""

from tinystar_np.cache.keys_and_values import KeyValueState, SlidingKeyValueState


def LatentState(batch_size, width, capacity=0):  # noqa
    return KeyValueState(batch_size, 1, width, capacity, value_dim=0)


def SlidingLatentState(batch_size, width, window, capacity=0):  # noqa
    return SlidingKeyValueState(batch_size, 1, width, window, capacity, value_dim=0)
