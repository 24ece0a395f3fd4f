"""Frames that a thread reads before they are needed, and that stay as bytes where there is room."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from ..generate import ControlFrames


class FramesAhead:
    """Frames of one video for work that goes over them again and again, mostly in the same order.

    One thread reads. The first frames that were asked for stay, until `keep_bytes` are full, and the others
    are read anew each time: of frames that come round in a circle, dropping the oldest would lose each just
    before it is asked for. What `ahead` named waits until it is asked for, or until other frames are named.
    """

    def __init__(self, frames: ControlFrames, keep_bytes: int) -> None:
        self.frames = frames
        self.keep_bytes = keep_bytes
        self.kept_bytes = 0
        self._kept: dict[int, np.ndarray] = {}
        self._reading: dict[int, Future[np.ndarray]] = {}
        self._reader = ThreadPoolExecutor(1, "read-frames")

    def __call__(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 [len(indices), H, W, 3], RGB; waits for what is not read yet."""
        self._read(indices)
        found = {}
        for index in indices:
            if index not in found:
                found[index] = self._take(index)
        return np.stack([found[index] for index in indices])

    def ahead(self, indices: Iterable[int]) -> None:
        """Read these next. Frames that were to be read before, and are not among them, are forgotten."""
        wanted = list(indices)
        for index in self._reading.keys() - set(wanted):
            self._reading.pop(index).cancel()
        self._read(wanted)

    def drop(self, index: int) -> None:
        """Keep a frame no longer: something better is kept of it."""
        if index in self._kept:
            self.kept_bytes -= self._kept.pop(index).nbytes

    def _read(self, indices: Iterable[int]) -> None:
        for index in indices:
            if index not in self._kept and index not in self._reading:
                self._reading[index] = self._reader.submit(self._read_one, index)

    def _read_one(self, index: int) -> np.ndarray:
        return self.frames[index : index + 1][0]

    def _take(self, index: int) -> np.ndarray:
        if index in self._kept:
            return self._kept[index]
        frame = self._reading.pop(index).result()
        if self.kept_bytes + frame.nbytes <= self.keep_bytes:
            self._kept[index] = frame
            self.kept_bytes += frame.nbytes
        return frame


def batches_ahead(frames: Iterable[np.ndarray], most: int, most_bytes: int) -> Iterator[list[np.ndarray]]:
    """Frames in their order, as many at once as `most` and `most_bytes` allow, and at least one.

    While a batch is worked on, a thread reads the next one; what that raises is raised where its batch would
    come.
    """
    iterator = iter(frames)

    def read() -> list[np.ndarray]:
        batch = list(islice(iterator, 1))
        if batch:
            count = min(most, most_bytes // batch[0].nbytes)
            batch += islice(iterator, max(0, count - 1))
        return batch

    with ThreadPoolExecutor(1, "read-frames") as reader:
        following = reader.submit(read)
        while batch := following.result():
            following = reader.submit(read)
            yield batch
