"""What is known of a clip, cheap first: where it is, what it looks like, who is in it, how they move.

Frames are counted on the constant grid that `stages.media.video` puts a source on; for a source of constant
rate these are its own frames. Pictures are uint8 RGB, and places are in pixels of the whole upright picture,
bars included, unless said otherwise.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ...stages.pose.base import Detections
from ...stages.types import PoseSequence, VideoInfo


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: columns x0 to x1 and rows y0 to y1, where x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The part of a picture [H, W, ...] that is in the box: a view."""
        return picture[self.y0 : self.y1, self.x0 : self.x1]


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames `start_frame` to `end_frame` (exclusive) of a source: a span without a cut.

    `fps` is the source's rate, exact; `bars` is the picture inside letterbox or pillar bars, None without.
    """

    source: Path
    start_frame: int
    end_frame: int
    fps: Fraction
    bars: Box | None = None

    @property
    def start(self) -> Fraction:
        """Seconds from the source's first frame to the clip's."""
        return self.start_frame / self.fps

    @property
    def duration(self) -> Fraction:
        """How many seconds it lasts."""
        return (self.end_frame - self.start_frame) / self.fps

    def picture(self, info: VideoInfo) -> Box:
        """Where the picture is: inside the bars, or all of it."""
        return self.bars or Box(0, 0, info.width, info.height)


@dataclass(frozen=True, slots=True)
class Probe:
    """Level `probe`: what is known once the clips of a source are found.

    `damaged` frames did not decode, or only with errors.
    """

    info: VideoInfo
    clip: Clip
    damaged: int


@dataclass(frozen=True, slots=True)
class Frames:
    """Level `frames`: what one pass over the clip leaves, without the bars.

    `small` uint8 [T, h, w, 3]: every frame, SMALL pixels on the longer side. `samples` uint8 [N, H, W, 3]:
    SAMPLES_A_SECOND, at most SAMPLE pixels on the longer side, the clip's frames `sample_index` int64 [N].
    """

    info: VideoInfo
    clip: Clip
    small: np.ndarray
    samples: np.ndarray
    sample_index: np.ndarray


@dataclass(frozen=True, slots=True)
class SparsePoses:
    """Level `sparse`: everybody in the samples `looked_at`, in their pixels; `size` is width and height."""

    people: tuple[Detections, ...]
    looked_at: tuple[int, ...]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DensePoses:
    """Level `dense`: the dancer in every frame that a training would see.

    `poses` are at the rate asked for, in pixels of the whole picture of the source; `source_frames` int64 [T]
    says which of its frames they are of. `picture` is the part inside the bars. `hand_sharpness` float32
    [T, 2], left and right, 0 where the hand is not seen. `camera` float32 [T, 2, 3] takes a still point of
    the frame before to its place in this one ([0] is the identity). `looks` uint8 [T, LOOK, LOOK, 3] is the
    dancer, cut out around the trunk and scaled by it; black where nobody is seen.
    """

    poses: PoseSequence
    source_frames: np.ndarray
    picture: Box
    hand_sharpness: np.ndarray
    camera: np.ndarray
    looks: np.ndarray


def frames_at(clip: Clip, fps: Fraction) -> np.ndarray:
    """The source's frames int64 [T] that a clip of exactly `fps` frames a second shows: at k / fps the one
    on screen, from the clip's first on; its T frames last no longer than the clip.
    """
    count = max(1, int(clip.duration * fps))
    return np.array([clip.start_frame + int(k * clip.fps / fps) for k in range(count)], np.int64)
