"""Frames that wait on disk: lossless, read by slice, so that memory does not grow with a video's length.

One zip file of PNG pictures. A drawn control frame is mostly black and takes about 20 kB where the raw
576x1024 array takes 1.8 MB.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ..atomic import atomic_path
from ..errors import OutputError


def write_frames(path: Path, frames: Iterable[np.ndarray]) -> int:
    """Store frames (uint8 [H, W, 3], RGB) under `path`; the file appears when all are written.

    Returns how many there were.
    """
    count = 0
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for frame in frames:
            ok, png = cv2.imencode(".png", frame[..., ::-1])
            if not ok:
                raise OutputError(f"frame {count} of shape {frame.shape} cannot be stored in {path}")
            archive.writestr(zipfile.ZipInfo(f"{count:08d}.png"), png.tobytes())  # no time stamp
            count += 1
    return count


class StoredFrames:
    """Frames written by `write_frames`: `len(frames)`, and `frames[a:b]` is uint8 [n, H, W, 3] in RGB."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._names = self._archive.namelist()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: slice) -> np.ndarray:
        return np.stack([decode_png(self._archive.read(name)) for name in self._names[index]])


def decode_png(data: bytes) -> np.ndarray:
    """PNG bytes -> uint8 [H, W, 3], RGB."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # a reversed view would be copied slowly
