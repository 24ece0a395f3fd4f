"""Frames on disk come back as they were, and frames are read before they are needed."""

import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from posedance.stages.media.frames import StoredFrames, write_frames
from posedance.stages.media.read_ahead import FramesAhead, batches_ahead


def test_frames_come_back_identical(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 10, 6, 3), dtype=np.uint8)
    assert write_frames(tmp_path / "f.zip", iter(frames)) == 7
    stored = StoredFrames(tmp_path / "f.zip")
    assert len(stored) == 7
    for part in (slice(None), slice(2, 5), slice(6, None), slice(0, 1)):
        np.testing.assert_array_equal(stored[part], frames[part])


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def frames():
        yield np.zeros((4, 4, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_frames(tmp_path / "f.zip", frames())
    assert not list(tmp_path.iterdir())


class Watched:
    """Frames that note who reads which of them."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.reads = frames, []
        self.read = threading.Condition()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, part: slice) -> np.ndarray:
        with self.read:
            self.reads.append((part.start, threading.current_thread()))
            self.read.notify_all()
        return self.frames[part]

    @property
    def indices(self) -> list[int]:
        return [index for index, _ in self.reads]


def test_frames_are_read_ahead_by_a_thread_and_once_where_they_fit() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 10, 6, 3), dtype=np.uint8)
    watched = Watched(frames)
    ahead = FramesAhead(watched, keep_bytes=4 * frames[0].nbytes)
    ahead.ahead([0, 1, 2])
    with watched.read:
        assert watched.read.wait_for(lambda: watched.indices == [0, 1, 2], timeout=60)
    for _ in range(3):
        for part in ([0, 1, 2], [2, 0, 3, 0], [7, 8]):
            np.testing.assert_array_equal(ahead(part), frames[part])
    assert sorted(watched.indices) == [0, 1, 2, 3, 7, 7, 7, 8, 8, 8]
    assert ahead.kept_bytes == 4 * frames[0].nbytes
    assert threading.current_thread() not in {reader for _, reader in watched.reads}
    ahead.drop(1)
    ahead.ahead([5])
    ahead.ahead([6])
    np.testing.assert_array_equal(ahead([8, 6]), frames[[8, 6]])
    assert len(ahead._kept) == 4 and not ahead._reading


def test_a_frame_that_cannot_be_read_ahead_is_an_error_where_it_is_needed(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 10, 6, 3), dtype=np.uint8)
    write_frames(tmp_path / "f.zip", iter(frames))
    stored = StoredFrames(tmp_path / "f.zip")
    data = bytearray((tmp_path / "f.zip").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "f.zip").write_bytes(data)
    ahead = FramesAhead(stored, keep_bytes=0)
    ahead.ahead([0, 1, 2])
    np.testing.assert_array_equal(ahead([0])[0], frames[0])
    with pytest.raises(zipfile.BadZipFile, match="00000001"):
        ahead([1])


def test_batches_are_read_while_the_one_before_is_worked_on() -> None:
    """As many frames as may be and as fit; the next batch is being read when the first is given."""
    reading = threading.Event()

    def frames():
        for index in range(7):
            if index == 3:
                reading.set()
            yield np.full((2, 2, 3), index, np.uint8)

    batches = batches_ahead(frames(), 3, 1000)
    first = next(batches)
    assert [int(frame[0, 0, 0]) for frame in first] == [0, 1, 2] and reading.wait(5)
    assert [len(batch) for batch in batches] == [3, 1]
    assert [len(batch) for batch in batches_ahead(frames(), 3, 24)] == [2, 2, 2, 1]
    assert [len(batch) for batch in batches_ahead(frames(), 3, 1)] == [1] * 7


def test_what_a_batch_cannot_read_is_an_error_in_its_place() -> None:
    def frames():
        yield from np.zeros((2, 2, 2, 3), np.uint8)
        raise OSError("damaged")

    batches = batches_ahead(frames(), 2, 1000)
    assert len(next(batches)) == 2
    with pytest.raises(OSError, match="damaged"):
        next(batches)
