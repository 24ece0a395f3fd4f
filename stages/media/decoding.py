"""The frames of a video file, decoded packet by packet from any of them on."""

import os
from collections.abc import Generator
from contextlib import closing, suppress

from av.codec.context import ThreadType
from av.error import FFmpegError
from av.video.frame import VideoFrame

from ..threads import thread_limit
from .container import Scan, check_size, moved_packets, open_container, video_stream

ROUNDED_UP = 2
"""Decoders refuse a frame of so many times the allowed pixels before they make room for it: they count whole
blocks, and round sides up to these."""


def decoded_frames(
    path: str | os.PathLike[str], found: Scan, target: int, max_pixels: int
) -> Generator[tuple[int, VideoFrame], None, None]:
    """Yield (pts, frame) from the frame numbered `target` or some before it to the end.

    Threads that decode several frames at once drop good ones beside a bad one: from the first error on, the
    frames come one by one, and those that do not decode are left out. VideoError for a frame of more than
    `max_pixels`: a stream may grow after its header.
    """
    goal = found.timeline.pts[target]
    last = None
    for seek in (True, False) if target > 0 and found.seekable else (False,):
        try:
            with closing(_decode(path, found, goal if seek else None, ThreadType.AUTO, max_pixels)) as frames:
                for pts, frame in frames:
                    if last is None and seek and pts > goal:
                        break  # the seek missed: once more, from the beginning of the file
                    last = pts
                    yield pts, frame
        except FFmpegError:
            with closing(
                _decode(path, found, goal if seek else None, ThreadType.SLICE, max_pixels)
            ) as frames:
                for pts, frame in frames:
                    if last is None or pts > last:
                        yield pts, frame
            return
        if last is not None:
            return


def _decode(
    path: str | os.PathLike[str], found: Scan, seek: int | None, threads: ThreadType, max_pixels: int
) -> Generator[tuple[int, VideoFrame], None, None]:
    """Yield (pts, frame) packet by packet; with ThreadType.SLICE go on after those that do not decode."""
    stamps = iter(found.timeline.pts)
    pts = found.timeline.pts[0]
    with open_container(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = threads
        stream.codec_context.thread_count = thread_limit() or 0  # 0: FFmpeg takes one for each core
        stream.codec_context.options = {"max_pixels": str(ROUNDED_UP * max_pixels)}
        if seek is not None:
            with suppress(FFmpegError):
                container.seek(seek, stream=stream)
        for packet in moved_packets(container, stream, found.jumps):
            try:
                frames = packet.decode()
            except FFmpegError:
                check_size(path, stream.codec_context.width, stream.codec_context.height, max_pixels)
                if threads != ThreadType.SLICE:
                    raise
                next(stamps, None)
                continue
            for frame in frames:
                if isinstance(frame, VideoFrame):
                    check_size(path, frame.width, frame.height, max_pixels)
                    stamp = frame.pts if found.timed else next(stamps, None)
                    pts = stamp if stamp is not None else pts
                    yield pts, frame
