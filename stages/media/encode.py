"""Frames and sound to a video, written while the frames arrive; frames side by side for a comparison."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.codec.context import ThreadType
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from ..atomic import atomic_path
from ..errors import OutputError
from .audio import AudioSource, AudioTrack
from .picture import draw_label

__all__ = ["AudioSource", "VideoWriter", "side_by_side"]

ENCODER_THREADS = 4
"""x264's output depends on the number of threads, so it is fixed: the same frames give the same bytes."""

REPEATABLE = {"mbtree": "0"}
"""x264's macroblock tree reads stray memory on processors with AVX-512 (x264 165, seen on Zen 5): its bytes
change from run to run. Without it they are the same there and on every processor with SSSE3. On one real clip
that costs about 11 % more bits for the same PSNR.
"""


PLAYED = {8: "yuv420p", 10: "yuv420p10le"}
"""The pixels of a video that is played, by bit depth."""
EXACT = {8: "bgr0", 10: "gbrp10le"}
"""The same where nothing may be lost: RGB as it is."""
FFV1 = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
"""FFV1 version 3 (RFC 9043) with a checksum for each slice, and every frame by itself."""


class VideoWriter:
    """Write [height, width, 3] RGB frames to an H.264 mp4, with sound, as a context manager.

        with VideoWriter(path, width, height, Fraction(30000, 1001), AudioSource(driving)) as writer:
            for frame in frames:
                writer.write(frame)

    yuv420p with the index in front (faststart), tagged and converted as BT.709 limited range. Frame k is
    shown at k / `fps` exactly. yuv420p needs even sizes: an odd width or height grows by one pixel, the last
    column or row repeated. `crf` is x264's quality (lower is better), `preset` its speed. The sound ends with
    the video or less than a packet before; a source without sound gives none. Memory does not grow with
    length, and the same frames give the same bytes.

    Frames are uint8, or with a `bit_depth` of 10 uint16 in 0..1023, and the video yuv420p10. With `lossless`
    it is a Matroska file of FFV1, which holds the frames to the bit, RGB in their own size, tagged as BT.709,
    and the sound as FLAC; its times are rounded to the millisecond, as Matroska's are. `comment` is a text
    that the file carries.

    `path` appears when the block ends without an exception (atomic_path), and only with a frame in it. Raises
    OutputError where it cannot be written, VideoError for a sound source that cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        fps: Fraction,
        audio: AudioSource | None = None,
        *,
        crf: int = 18,
        preset: str = "medium",
        bit_depth: int = 8,
        lossless: bool = False,
        comment: str | None = None,
    ) -> None:
        if width < 1 or height < 1 or fps <= 0 or bit_depth not in PLAYED:
            raise ValueError(
                f"cannot write a video of {width}x{height} at {fps} frames a second in {bit_depth} bits"
            )
        self.path = Path(path)
        self.width, self.height, self.fps = width, height, Fraction(fps)
        self.audio, self.crf, self.preset = audio, crf, preset
        self.bit_depth, self.lossless, self.comment = bit_depth, lossless, comment
        self.num_frames = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            with _output_errors(self.path):
                kind = "matroska" if self.lossless else "mp4"
                options = {"fflags": "+bitexact"} if self.lossless else {"movflags": "+faststart"}
                file = str(temporary.resolve())
                self._output = av.open(file, "w", format=kind, container_options=options)
            stack.callback(self._discard)
            self._stream = self._add_exact_video() if self.lossless else self._add_video()
            self._audio = None
            if self.audio is not None:
                self._audio = AudioTrack(self._output, self.audio, stack, lossless=self.lossless)
            if self.comment is not None:
                self._output.metadata["comment"] = self.comment
            with _output_errors(self.path):
                self._output.start_encoding()
            self._stack = stack.pop_all()
        return self

    def _add_video(self) -> VideoStream:
        options = {"crf": str(self.crf), "preset": self.preset} | REPEATABLE
        stream = self._output.add_stream("libx264", rate=self.fps, options=options)
        stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        stream.pix_fmt = PLAYED[self.bit_depth]
        context = stream.codec_context
        context.time_base = 1 / self.fps
        context.thread_count, context.thread_type = ENCODER_THREADS, ThreadType.FRAME
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def _add_exact_video(self) -> VideoStream:
        stream = self._output.add_stream("ffv1", rate=self.fps, options=FFV1)
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = EXACT[self.bit_depth]
        context = stream.codec_context
        context.time_base = 1 / self.fps
        context.thread_count, context.thread_type = ENCODER_THREADS, ThreadType.SLICE
        context.color_range = ColorRange.JPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def write(self, frame: np.ndarray) -> None:
        """Add one frame. Raises ValueError for another shape or dtype than the writer's."""
        kind = "uint8" if self.bit_depth == 8 else "uint16"
        if frame.shape != (self.height, self.width, 3) or frame.dtype != kind:
            raise ValueError(
                f"frame {self.num_frames} is {frame.dtype} {list(frame.shape)}:"
                f" expected {kind} [{self.height}, {self.width}, 3]"
            )
        picture = self._exact_picture(frame) if self.lossless else self._played_picture(frame)
        picture.pts, picture.duration, picture.time_base = self.num_frames, 1, 1 / self.fps
        self.num_frames += 1
        with _output_errors(self.path):
            self._output.mux(self._stream.encode(picture))
            if self._audio is not None:
                self._audio.mux_until(self.num_frames / self.fps)

    def _played_picture(self, frame: np.ndarray) -> VideoFrame:
        padding = ((0, self.height % 2), (0, self.width % 2), (0, 0))
        return _rgb_frame(np.pad(frame, padding, "edge")).reformat(
            format=PLAYED[self.bit_depth],
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )

    def _exact_picture(self, frame: np.ndarray) -> VideoFrame:
        picture = _rgb_frame(frame)
        return picture.reformat(format=EXACT[8], threads=1) if self.bit_depth == 8 else picture

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # whatever it was, the file is given up, and the error stays what it is
            self._stack.__exit__(_AbandonedError, _AbandonedError(), None)
            return
        with self._stack:
            if self.num_frames == 0:
                raise OutputError(f"no frame to write to {self.path}: the video would be empty")
            with _output_errors(self.path):
                self._output.mux(self._stream.encode(None))
                self._output.close()

    def _discard(self) -> None:
        """Close the output, whatever state it is in; after a clean end it is closed already."""
        with suppress(FFmpegError):
            self._output.close()


def _rgb_frame(frame: np.ndarray) -> VideoFrame:
    """uint8 [H, W, 3], or uint16 of 10 bits, as a frame of FFmpeg's."""
    if frame.dtype == np.uint8:
        return VideoFrame.from_ndarray(frame, format="rgb24")
    return VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="gbrp10le")


class _AbandonedError(Exception):
    """Stands for whatever ended the block, so that `atomic_path` takes it for no write error."""


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FFmpegError, OSError) as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}: choose a folder that exists, can be written,"
            f" and has space left"
        ) from error


def side_by_side(panels: Sequence[np.ndarray], height: int, labels: Sequence[str] = ()) -> np.ndarray:
    """Put uint8 [H, W, 3] panels in a row, each scaled to `height`: uint8 [height, sum of widths, 3].

    Each panel keeps its shape, its width rounded to an even number. `labels`, where given, has one short text
    for each panel.
    """
    if not panels or (labels and len(labels) != len(panels)):
        raise ValueError(f"{len(panels)} panels and {len(labels)} labels make no comparison")
    row = []
    for index, panel in enumerate(panels):
        width = max(2, 2 * round(panel.shape[1] * height / panel.shape[0] / 2))
        shrinks = height < panel.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        scaled = (
            panel
            if panel.shape[:2] == (height, width)
            else cv2.resize(panel, (width, height), interpolation=method)
        )
        if labels:
            scaled = scaled.copy()
            draw_label(scaled, labels[index])
        row.append(scaled)
    return np.concatenate(row, axis=1)
