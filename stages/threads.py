"""How many threads the libraries of this process may use: torch, OpenCV, onnxruntime, MediaPipe and PyAV.

Each of them takes all cores unless it is told. x264 keeps its own number (`encode.ENCODER_THREADS`), for its
output depends on it.
"""

import sys

_limit: int | None = None


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
