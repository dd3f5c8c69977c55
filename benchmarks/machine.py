"""Where a benchmark ran: processor, cores, load; and the environment of the processes it measures."""

import os
import platform
from pathlib import Path

HERE = Path(__file__).parent
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
BUSY = 0.3  # other processes that want a core, on average over the last minute


def usable_cores() -> int:
    """Count the cores that this process may use, not all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def openblas_settings() -> str | None:
    """List what the environment tells OpenBLAS, but for the threads: another machine may not be told so."""
    told = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
    return " ".join(f"{k}={v}" for k, v in sorted(told.items()) if k not in THREAD_VARIABLES) or None


def describe() -> dict[str, str | int | None]:
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "OpenBLAS is told": openblas_settings(),
    }


def load_warning() -> str | None:
    """Say so where the machine is not quiet: then no figure of this run means anything."""
    load = os.getloadavg()[0]
    return f"The machine is busy (load {load:.1f}): do not quote these figures." if load > BUSY else None


def environment(threads: int) -> dict[str, str]:
    """Build the environment of every measured process."""
    env = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    env["TOKENIZERS_PARALLELISM"] = "false"
    env["HF_HUB_OFFLINE"] = "1"  # the model is on this disk; nobody shall wait for the network
    # A user's second start finds compiled bytecode.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env
