"""A description of the machine that speeds were measured on."""

import os
import platform
from pathlib import Path

from tinystar_np.fast.machine import usable_cores

BUSY = 0.3  # other processes that want a core, on average over the last minute


def describe_machine() -> dict[str, str | int]:
    """Return what speeds depend on: processor, usable cores, threads of matrix products, versions."""
    import numpy as np
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas").lib_controllers
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": max((library.get_num_threads() for library in blas), default=1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load_warning() -> str | None:
    """Return a warning if the machine is busy; None if not, or if the system does not tell."""
    if not hasattr(os, "getloadavg"):
        return None
    load = os.getloadavg()[0]
    busy = f"The machine is busy (load {load:.1f}): speeds may be lower than it allows."
    return busy if load > BUSY else None
