"""Pictures that move: a folder or pattern of numbered ones, and animated GIF, WebP and APNG."""

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageSequence

from ..errors import PictureError
from .container import Scan, check_size, nothing_decodes
from .numbered import missing_numbers
from .picture import picture_size, read_picture, to_rgb
from .png_text import without_texts
from .timeline import Timeline, make_timeline

ANIMATIONS = ("GIF", "WEBP", "PNG")
ANIMATION_STARTS = (b"GIF8", b"RIFF", b"\x89PNG")
DAMAGE = (OSError, SyntaxError, ValueError, EOFError)
"""What Pillow raises for a frame that does not decode: those before it are used."""
MILLISECOND = Fraction(1, 1000)
SHORTEST, IN_ITS_PLACE = 11, 100
"""Browsers show a frame that names less than 11 ms for 100 ms: such files were made for old, slow viewers."""


def scan_pictures(path: Path, pictures: Sequence[Path], fps: Fraction, max_pixels: int) -> Scan:
    """Pictures shown one after the other at `fps`. VideoError for a larger one first."""
    check_size(path, *picture_size(pictures[0]), max_pixels)
    missing = missing_numbers(pictures)
    note = f"{path}: of the numbers of its pictures {missing}; they are shown without a pause"
    timeline = make_timeline(range(len(pictures)), 1, 1 / fps, [fps])
    return _scan(timeline, (note,) if missing else ())


def _scan(timeline: Timeline, notes: tuple[str, ...] = ()) -> Scan:
    return Scan(timeline, Fraction(0), True, True, 0, False, Fraction(1), notes)


@dataclass(frozen=True, slots=True)
class NumberedPictures:
    """A FrameSource of pictures in files; one that is damaged is left out, as a packet would be."""

    pictures: Sequence[Path]
    scan: Scan
    max_pixels: int

    def frames(self, target: int) -> Generator[tuple[int, VideoFrame], None, None]:
        """As FrameSource has it."""
        for index in range(target, len(self.pictures)):
            path = self.pictures[index]
            try:
                check_size(path, *picture_size(path), self.max_pixels)
                image = read_picture(path)
            except PictureError:
                continue
            yield index, VideoFrame.from_ndarray(image, format="rgb24")


def is_animated(path: Path) -> bool:
    """Whether a file is a GIF, WebP or APNG of more than one frame."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if not file.read(4).startswith(ANIMATION_STARTS):
            return False
    try:
        with Image.open(without_texts(path), formats=ANIMATIONS) as image:
            return getattr(image, "is_animated", False)
    except (*DAMAGE, Image.DecompressionBombError):
        return False


def scan_animation(path: Path, max_pixels: int) -> Scan:
    """The times of an animation's frames, by its own durations. VideoError where none can be read."""
    durations = []
    with Image.open(without_texts(path), formats=ANIMATIONS) as image:
        check_size(path, *image.size, max_pixels)
        with suppress(*DAMAGE):
            for frame in ImageSequence.Iterator(image):
                frame.load()  # WebP tells the duration of a frame no sooner
                shown = round(frame.info.get("duration", 0))
                durations.append(shown if shown >= SHORTEST else IN_ITS_PLACE)
    if not durations:
        raise nothing_decodes(path)
    starts = np.cumsum([0, *durations[:-1]]).tolist()
    return _scan(make_timeline(starts, durations[-1], MILLISECOND, []))


@dataclass(frozen=True, slots=True)
class Animation:
    """A FrameSource of an animated picture, each frame whole, transparent parts white."""

    path: Path
    scan: Scan

    def frames(self, target: int) -> Generator[tuple[int, VideoFrame], None, None]:
        """As FrameSource has it."""
        with suppress(*DAMAGE), Image.open(without_texts(self.path), formats=ANIMATIONS) as image:
            for stamp, frame in zip(self.scan.timeline.pts, ImageSequence.Iterator(image), strict=False):
                if stamp >= self.scan.timeline.pts[target]:
                    yield stamp, VideoFrame.from_ndarray(to_rgb(frame.copy(), str(self.path)), format="rgb24")
