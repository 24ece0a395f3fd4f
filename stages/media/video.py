"""Driving videos: what a file holds, and its frames, streamed at a constant rate.

The time stamps are read first, from the packets, without decoding (timeline.py): they give the exact rate,
tell a constant from a variable one, and say where each frame belongs on the grid that all later stages work
on. Time 0 is the first video frame; the file's own start time is taken off.
"""

import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from ..errors import ConfigError
from ..types import LARGEST_FRAME, VideoInfo
from .container import nothing_decodes
from .one_size import OneSize, upright_size
from .sources import FrameSource, open_source


@dataclass(frozen=True, slots=True)
class Clip:
    """Which part of a driving video is used: `duration` seconds from `start`, every `stride`-th frame.

    Times are seconds from the first frame; floats and strings are taken too, to the microsecond. `fps` is the
    frame rate of pictures in a folder, which name none, and `max_pixels` the largest frame that is decoded.
    Raises ConfigError for a negative start, a duration or rate that is not positive, and a stride below 1.
    """

    start: Fraction = Fraction(0)
    duration: Fraction | None = None
    stride: int = 1
    fps: Fraction | None = None
    max_pixels: int = LARGEST_FRAME

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _seconds("start", self.start))
        if self.start < 0:
            raise ConfigError(f"start {_decimal(self.start)} is negative: give seconds from the first frame")
        if self.duration is not None:
            object.__setattr__(self, "duration", _seconds("duration", self.duration))
            if self.duration <= 0:
                raise ConfigError(
                    f"duration {_decimal(self.duration)} is not positive: give seconds, or leave it out"
                )
        if self.fps is not None and not self.fps > 0:
            raise ConfigError(f"fps {self.fps} is not positive: give frames a second")
        if isinstance(self.stride, bool) or not isinstance(self.stride, int) or self.stride < 1:
            raise ConfigError(
                f"stride {self.stride} is not a whole number from 1 on: 2 takes every other frame"
            )


def _seconds(name: str, value: Fraction | float | str) -> Fraction:
    try:
        return Fraction(value).limit_denominator(1_000_000)
    except (ValueError, OverflowError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{name} {value} is not a number of seconds: give one such as 1.5") from error


def _decimal(seconds: Fraction) -> str:
    return f"{float(seconds):.6g}"


@dataclass(slots=True)
class DecodeReport:
    """What became of a clip's source frames; `read_frames` counts here while it runs.

    `decoded` frames were read, `damaged` of them with errors that the decoder concealed. `lost` frames are
    in the file, or promised by its header, and could not be decoded: known once the last frame is read.
    `notes` are lines on what
    the file says of itself that was passed over, and on frames of another size. `places` are the grid's
    frames that begin with a source frame that is damaged, or lost, or has no key frame since such a one:
    what is wrong with it goes on. Those that only the header promises are not among them.
    """

    decoded: int = 0
    damaged: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


def probe(path: str | os.PathLike[str], clip: Clip | None = None) -> VideoInfo:
    """Say what a video holds; its packets are read to the end, its first frame alone is decoded.

    Of `clip` only `fps` and `max_pixels` count.

    `fps`, exact, is the rate of the grid that `read_frames` puts the frames on (rule: `make_timeline`), and
    `num_frames` and `duration` are the grid's: what is really in the file, also where it is cut off. Raises
    VideoError for a file that is missing, empty, not a video, without video, or without a frame that decodes,
    and for larger frames; ConfigError for pictures without a rate, and for a rate where there is one already.
    """
    clip = clip or Clip()
    source = open_source(path, clip.fps, clip.max_pixels)
    found, timeline = source.scan, source.scan.timeline
    with closing(source.frames(0)) as frames:
        first = next(frames, None)
    if first is None:
        raise nothing_decodes(path)
    width, height = upright_size(first[1], found.aspect)
    duration = timeline.num_frames / timeline.rate
    return VideoInfo(width, height, timeline.rate, timeline.num_frames, duration, found.has_audio)


def output_rate(info: VideoInfo, clip: Clip) -> Fraction:
    """Frames a second of what `read_frames` yields: playing at the original speed."""
    return info.fps / clip.stride


def count_frames(info: VideoInfo, clip: Clip) -> int:
    """How many frames `read_frames` yields from an undamaged file. ConfigError for a start past the end."""
    first, stop = _span(info.num_frames, info.fps, clip)
    return math.ceil((stop - first) / clip.stride)


def clip_start(info: VideoInfo, clip: Clip) -> Fraction:
    """Seconds of the clip's first frame: the one on screen at `clip.start`. Audio is cut here."""
    return _span(info.num_frames, info.fps, clip)[0] / info.fps


def read_frames(
    path: str | os.PathLike[str],
    clip: Clip,
    report: DecodeReport | None = None,
    longest_side: int | None = None,
) -> Iterator[np.ndarray]:
    """Stream the frames of `clip` at the constant `output_rate`: uint8 [H, W, 3] RGB, upright, square pixels.

    Larger ones are scaled down to `longest_side` pixels, which costs less than to scale the result.

    Few frames are held at a time, and the file is closed also when the consumer stops early. A long gap
    between frames repeats the one before it; a frame that does not decode is replaced in the same way, so
    that the others keep their times. All have the size of the first: a frame of another shape lies between
    bars. How colours and pixels that are not square are treated: rgb.py. The arrays are the caller's own.

    Raises VideoError as `probe` does and ConfigError where `clip` starts past the end, both at the call;
    VideoError while running where nothing of the clip decodes.
    """
    report = DecodeReport() if report is None else report
    source = open_source(path, clip.fps, clip.max_pixels)
    found = source.scan
    report.notes.extend(found.notes)
    timeline = found.timeline
    try:
        first, stop = _span(timeline.num_frames, timeline.rate, clip)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    missing = found.missing
    if clip.duration is not None:
        missing = min(missing, max(0, first + _length(timeline.rate, clip.duration) - timeline.num_frames))
    return _read(path, source, range(first, stop, clip.stride), stop, missing, report, longest_side)


def _length(rate: Fraction, duration: Fraction) -> int:
    return max(1, math.floor(duration * rate + Fraction(1, 2)))


def _span(num_frames: int, rate: Fraction, clip: Clip) -> tuple[int, int]:
    """Grid frames [first, stop) of a clip: from the one on screen at its start, to the nearest of its end."""
    first = math.floor(clip.start * rate + rate / 1_000_000)  # a time rounded down to the microsecond
    if first >= num_frames:
        raise ConfigError(
            f"start {_decimal(clip.start)} s is past the end of the video, which is"
            f" {_decimal(num_frames / rate)} s long: choose an earlier start"
        )
    if clip.duration is None:
        return first, num_frames
    return first, min(num_frames, first + _length(rate, clip.duration))


def _read(
    path: str | os.PathLike[str],
    source: FrameSource,
    wanted: range,
    stop: int,
    missing: int,
    report: DecodeReport,
    longest_side: int | None,
) -> Iterator[np.ndarray]:
    """Yield the `wanted` grid frames; source frames up to `stop` are counted in `report`."""
    timeline, aspect = source.scan.timeline, source.scan.aspect
    target = bisect_right(timeline.pts, wanted.start, key=timeline.slot) - 1  # on screen at the start
    expected = bisect_right(timeline.pts, stop - 1, key=timeline.slot) - target
    decoded, upcoming, end, slot = 0, wanted.start, stop, 0
    awaited, whole = target, True
    held: VideoFrame | None = None
    shown = OneSize(aspect, longest_side)
    with closing(source.frames(target)) as frames:
        for pts, frame in frames:
            slot = timeline.slot(pts)
            if slot >= stop:
                break
            if pts >= timeline.pts[target]:
                decoded += 1
                report.decoded += 1
                report.damaged += frame.is_corrupt
                place = bisect_left(timeline.pts, pts)
                whole = not frame.is_corrupt and (frame.key_frame or (whole and place <= awaited))
                report.places += map(timeline.slot, timeline.pts[awaited : place + (not whole)])
                awaited = place + 1
            held = held or frame
            for _ in range(upcoming, slot, wanted.step):
                yield shown.rgb(held)
                upcoming += wanted.step
            held = frame
        else:  # the file ended: its last frame is held, but nothing is made up for a tail that was lost
            if slot < timeline.slot(timeline.pts[-1]):
                end = min(stop, slot + 1)
    if held is None:
        raise nothing_decodes(path)
    for _ in range(upcoming, end, wanted.step):
        yield shown.rgb(held)
    report.notes.extend(f"{path}: {note}" for note in shown.notes)
    report.places += map(timeline.slot, timeline.pts[awaited : target + expected])
    report.lost += max(0, expected - decoded) + missing
