"""How many cores this process may use, and how many threads the libraries in it may take: torch, OpenCV,
onnxruntime, MediaPipe and PyAV.

Each of them takes all cores of the machine, or of the process, unless it is told. x264 keeps its own number
(`encode.ENCODER_THREADS`), for its output depends on it.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_limit: int | None = None


def usable_cpus(system: Path = Path("/")) -> int:
    """Cores that this process may use: those that it may run on, within the quotas of its control groups.

    A batch system or a container gives a process a part of a machine in either way. `system` is the root of
    the files in which Linux tells of control groups.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, int(min([cores, *_quotas(system)])))


def _quotas(system: Path) -> Iterator[float]:
    """Cores that each control group above this process may use, where it is limited (cgroup v2 and v1)."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux, or hidden in a sandbox
        return
    mounts = system / "sys/fs/cgroup"
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            roots = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [mounts / "cpu", mounts / controllers]
        else:
            continue
        below = Path(group.lstrip("/"))
        # A container often sees its own group as the root, under a name that is not there.
        yield from (
            quota for root in roots for part in (below, *below.parents) for quota in _quota(root / part)
        )


def _quota(group: Path) -> Iterator[float]:
    """The quota of one group in cores; nothing where there is none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)


def heed_usable_cpus() -> None:
    """Where this process has a part of the machine, let no library take more threads than cores: once, early.

    Torch reads OMP_NUM_THREADS when it loads; a value that the user gave stays.
    """
    global _limit
    if (cpus := usable_cpus()) < (os.cpu_count() or 1):
        _limit = cpus
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))


def limit_threads(cpus: float) -> None:
    """Give every library the threads of a share of the cores: at least one.

    OpenCV, and torch where it is loaded, take it at once; models and videos when they are opened.
    """
    import cv2

    global _limit
    _limit = max(1, int(cpus))
    cv2.setNumThreads(_limit)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(_limit)


def thread_limit() -> int | None:
    """Threads that a library may use in this process; None where nothing was said: it decides itself."""
    return _limit
