"""The clips of a source: one pass finds hard cuts, fades through black and bars; an extra, dissolves."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ...stages.errors import ConfigError
from ...stages.media import video
from ...stages.types import LARGEST_FRAME, VideoInfo
from . import dissolves
from .bars import Profile, find_bars, profile_of
from .clip import Box, Clip
from .frames import read_clip

if TYPE_CHECKING:
    from scenedetect.detectors import AdaptiveDetector

SURVEY = 256
"""Pixels of the longer side of the frames in which cuts are looked for."""
LOOKS_A_SECOND = 2
"""How often bars are looked at."""
LOOK_SIZE = (24, 24)
SHORTEST = 5
"""Frames between two hard cuts at least: what flashes is one."""
CONTENT, FAINT = 15.0, 9.0
"""Change of a frame (PySceneDetect's content score) from which it may begin a shot, and from which it does
where it stands out: rooms that look alike had 10 to 14.9 at their cuts, poor key frames 8.3 at most."""
STANDS_OUT = 6.0
"""How many times the mean change of the two frames before and after that is: cuts had 13 and more."""
SAME_PICTURE = 0.98
"""Correlation of pictures in LOOK_SIZE from which there is no cut between them: poor coding renews all of a
picture at a key frame, with 0.99; a jump cut within a dance leaves 0.91."""
SAME_LEVEL = 8.0
"""Levels, in the mean, by which they differ at most."""
RECENT = 8
"""Frames that are remembered until the detector has made up its mind."""
SMALLEST_PICTURE = 0.1
"""Share of the frame that a picture between bars takes at least: with less it is a black frame."""
DARK = 16.0
"""Mean luma below which a frame is the black of a fade."""
RAMP = 0.3
"""Levels by which the mean luma of a fade changes from frame to frame at least."""
STEADY = 0.25
"""Part of a step of a fade that the next one away from black has at least: less is the dance's own."""
PAUSE = 1.0
"""Seconds of black from which it is a clip of its own, and no part of a fade."""
CLOSE_LOOKS = 10
"""Frames in full size by which bars are measured."""
BESIDE_BARS = 2
"""Pixels along a bar that are left out with it."""
LONGEST = Fraction(60)
"""Seconds: longer shots are split evenly (Cosmos-Curate's 60)."""


@dataclass(slots=True)
class Survey:
    """What one pass over a source finds: `cuts` are the first frames of shots after a hard cut.

    `brightness` is each frame's mean luma, `damaged` are the frames that are damaged. LOOKS_A_SECOND frames
    leave a profile, and as looks what is inside their bars in LOOK_SIZE pixels, uint8 [h, w, 3]; both stand
    with the frame's number.
    """

    cuts: list[int] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)
    profiles: list[tuple[int, Profile]] = field(default_factory=list)
    looks: list[tuple[int, np.ndarray]] = field(default_factory=list)
    damaged: set[int] = field(default_factory=set)


def find_clips(
    source: Path,
    info: VideoInfo,
    *,
    longest: Fraction = LONGEST,
    find_dissolves: bool = False,
    max_pixels: int = LARGEST_FRAME,
    report: video.DecodeReport | None = None,
) -> list[Clip]:
    """The shots of a source without the fades between them, split where longer than `longest` seconds.

    All of it is decoded: `report` tells what is damaged. With `find_dissolves`, for which the extra
    `transnet` must be installed, dissolves are taken out too.
    Raises VideoError where the source cannot be read.
    """
    found = survey(source, info, max_pixels, video.DecodeReport() if report is None else report)
    spans = split_at_fades(shots(found), np.array(found.brightness), info.fps)
    if find_dissolves:
        whole = Clip(source, 0, len(found.brightness), info.fps)
        spans = [part for span in spans for part in split_at_dissolves(whole, span, found, max_pixels)]
    spans = [part for span in spans for part in split_evenly(span, max(1, int(longest * info.fps)))]
    clips = [Clip(source, start, end, info.fps) for start, end in spans]
    return [replace(clip, bars=inside_bars(clip, info, found.profiles, max_pixels)) for clip in clips]


def inside_bars(
    clip: Clip, info: VideoInfo, profiles: list[tuple[int, Profile]], max_pixels: int
) -> Box | None:
    """The picture inside the bars of a clip, None without any; BESIDE_BARS pixels along bars are left out.

    Where the small frames have bars, a few large ones tell where they end.
    """
    seen = [profile for number, profile in profiles if clip.start_frame <= number < clip.end_frame]
    if not seen or not has_bars(seen):
        return None
    middle = (2 * clip.start_frame + clip.end_frame) // 3
    few = replace(clip, start_frame=middle, end_frame=min(middle + CLOSE_LOOKS, clip.end_frame))
    large = [profile_of(frame) for frame in read_clip(few, None, max_pixels)]
    if not has_bars(large):
        return None
    (top, bottom), (left, right) = find_bars(large)
    (x0, x1), (y0, y1) = inner(left, right, info.width), inner(top, bottom, info.height)
    return Box(x0, y0, x1, y1)


def inner(first: int, end: int, side: int) -> tuple[int, int]:
    """Edges of the picture on one side, without the pixels along bars that coding mixes with them."""
    return first + (BESIDE_BARS if first > 0 else 0), end - (BESIDE_BARS if end < side else 0)


def has_bars(profiles: list[Profile]) -> bool:
    """Whether these frames have bars, and something inside."""
    (top, bottom), (left, right) = find_bars(profiles)
    whole = len(profiles[0].rows), len(profiles[0].columns)
    return bottom > top and right > left and (bottom - top, right - left) != whole


def damaged_frames(clip: Clip, report: video.DecodeReport) -> int:
    """How many frames of a clip did not decode, or only with errors, by the report of `find_clips`."""
    return sum(clip.start_frame <= place < clip.end_frame for place in report.places)


def survey(source: Path, info: VideoInfo, max_pixels: int, report: video.DecodeReport) -> Survey:
    """Read a source once, small. Where a frame is damaged there is no cut: the damage changes the picture."""
    from scenedetect import FrameTimecode

    found = Survey()
    detector = cut_detector()
    recent: deque[np.ndarray] = deque(maxlen=RECENT)
    every = max(1, round(info.fps / LOOKS_A_SECOND))
    part = video.Clip(max_pixels=max_pixels)
    for number, frame in enumerate(video.read_frames(source, part, report, longest_side=SURVEY)):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        recent.append(frame)
        cuts = detector.process_frame(FrameTimecode(number, fps=info.fps), bgr)
        ago = [number - cut.frame_num for cut in cuts]
        found.cuts += [number - k for k in ago if not goes_on(recent[-2 - k], recent[-1 - k])]
        found.brightness.append(float(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).mean()))
        if number % every == 0:
            profile = profile_of(frame)
            found.profiles.append((number, profile))
            found.looks.append((number, look_of(inside(frame, [profile]))))
    found.damaged = set(report.places)
    found.cuts = [cut for cut in found.cuts if cut not in found.damaged]
    return found


def inside(frame: np.ndarray, profiles: Sequence[Profile]) -> np.ndarray:
    """The part of a frame [H, W, ...] inside the bars of all these profiles: a view; all where nothing is."""
    (top, bottom), (left, right) = find_bars(profiles)
    return frame[top:bottom, left:right] if bottom > top and right > left else frame


def look_of(picture: np.ndarray) -> np.ndarray:
    """A picture [H, W, ...] in LOOK_SIZE."""
    return cv2.resize(picture, LOOK_SIZE, interpolation=cv2.INTER_AREA)


def goes_on(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a frame shows what the one before it does inside the bars of both, uint8 RGB [H, W, 3]."""
    bars = [profile_of(before), profile_of(after)]
    grey = (cv2.cvtColor(inside(frame, bars), cv2.COLOR_RGB2GRAY) for frame in (before, after))
    first, second = (look_of(frame).astype(np.float32) for frame in grey)
    alike = dissolves.correlation(first, second) >= SAME_PICTURE
    return alike and float(np.abs(first - second).mean()) <= SAME_LEVEL


def cut_detector() -> "AdaptiveDetector":
    """PySceneDetect's detector where bars do not count: they would hide a cut of the small picture inside.

    Raises ConfigError where PySceneDetect is not installed.
    """
    try:
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise ConfigError(
            f"cuts are found by PySceneDetect, which is not installed ({error}): "
            "pip install 'posedance[curate]'"
        ) from error

    class InsideBars(AdaptiveDetector):
        inside = 1.0

        def process_frame(self, timecode: Any, frame_img: np.ndarray) -> list[Any]:
            cuts = super().process_frame(timecode, frame_img)
            return [cut for cut in cuts if stands_out([change for _, change in self._buffer])]

        def _calculate_frame_score(self, timecode: Any, frame_img: np.ndarray) -> float:
            score = super()._calculate_frame_score(timecode, frame_img)
            share = profile_of(frame_img).inside()
            before, self.inside = self.inside, share if share >= SMALLEST_PICTURE else 1.0
            return score / max(before, self.inside)

    return InsideBars(min_scene_len=SHORTEST, min_content_val=FAINT)


def stands_out(changes: Sequence[float]) -> bool:
    """Whether the middle one of the changes of some frames is large, by itself or beside the others."""
    middle = changes[len(changes) // 2]
    others = (sum(changes) - middle) / (len(changes) - 1)
    return middle >= CONTENT or middle >= STANDS_OUT * others


def shots(found: Survey) -> list[tuple[int, int]]:
    """Spans of frames [start, end) between hard cuts."""
    edges = [0, *found.cuts, len(found.brightness)]
    return [(start, end) for start, end in pairwise(edges) if end > start]


def split_at_fades(
    spans: list[tuple[int, int]], brightness: np.ndarray, fps: Fraction
) -> list[tuple[int, int]]:
    """Spans without the fades through black in them; black of PAUSE seconds and more is a span of its own.

    A fade is a run of frames below DARK with the frames around it that grow darker towards it, and what is
    shorter than SHORTEST before it.
    """
    parts = []
    for start, end in spans:
        begin = start
        for low, high in dark_runs(brightness, start, end):
            fall = low - ramp(brightness[begin : low + 1][::-1])
            rise = high + ramp(brightness[high - 1 : end])
            if fall - begin >= SHORTEST:
                parts.append((begin, fall))
            if high - low >= PAUSE * fps:
                parts.append((low, high))
            begin = rise
        parts.append((begin, end))
    return [(start, end) for start, end in parts if end > start]


def ramp(brightness: np.ndarray) -> int:
    """How many frames after the first grow steadily brighter, of luma [T] away from black."""
    before = 0.0
    for count, step in enumerate(np.diff(brightness).tolist()):
        if step <= max(RAMP, STEADY * before):
            return count
        before = step
    return max(0, len(brightness) - 1)


def split_at_dissolves(
    source: Clip, span: tuple[int, int], found: Survey, max_pixels: int
) -> list[tuple[int, int]]:
    """A span without the dissolves in it, nor what is shorter than SHORTEST beside them.

    `source` is all of its source. What seems to be one among damaged frames is none, and what is short and
    touches the end of the span is the cut there.
    """
    places = np.array([number for number, _ in found.looks], np.int64)
    looks = np.array([look for _, look in found.looks], np.uint8)
    parts, begin = [], span[0]
    for low, high in dissolves.suspects(looks, places, *span):
        for first, end in transitions_in(source, (low, high), found, max_pixels):
            touches = first <= span[0] or end >= span[1]
            if found.damaged.isdisjoint(range(first, end)) and not (touches and end - first < dissolves.LONG):
                parts.append((begin, first))
                begin = end
    parts.append((begin, span[1]))
    least = SHORTEST if len(parts) > 1 else 1
    return [(start, end) for start, end in parts if end - start >= least]


def transitions_in(
    source: Clip, stretch: tuple[int, int], found: Survey, max_pixels: int
) -> list[tuple[int, int]]:
    """Dissolves within a stretch of frames of a source, inside its bars."""
    low, high = stretch
    start, end = max(0, low - dissolves.CONTEXT), min(source.end_frame, high + dissolves.CONTEXT)
    bars = [profile for number, profile in found.profiles if low <= number < high]
    small = [
        cv2.resize(inside(frame, bars), dissolves.INPUT, interpolation=cv2.INTER_AREA)
        for frame in read_clip(replace(source, start_frame=start, end_frame=end), SURVEY, max_pixels)
    ]
    between = dissolves.transitions(np.stack(small), low - start, high - start)
    return [(start + first, start + last) for first, last in between]


def dark_runs(brightness: np.ndarray, start: int, end: int) -> list[tuple[int, int]]:
    """Runs [low, high) of frames below DARK between `start` and `end`."""
    dark = np.concatenate([[False], brightness[start:end] < DARK, [False]])
    edges = np.flatnonzero(np.diff(dark.astype(np.int8))) + start
    return [(int(low), int(high)) for low, high in edges.reshape(-1, 2)]


def split_evenly(span: tuple[int, int], most: int) -> list[tuple[int, int]]:
    """A span of frames in as few equal parts of at most `most` frames as there must be."""
    start, end = span
    parts = -(-(end - start) // most)
    edges = [start + (end - start) * k // parts for k in range(parts + 1)]
    return list(pairwise(edges))
