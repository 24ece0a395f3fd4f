"""Media files: opened with clear errors, and their packets and time stamps read without decoding."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ..errors import VideoError
from .clock import Jump, Packets, added, jumps_of_sound, jumps_of_video, told_jumps
from .hidden import hidden_packets
from .rgb import pixel_aspect
from .timeline import RATE_OF_ONE_FRAME, Timeline, make_sparse_timeline, make_timeline

UNTIMED_FORMATS = frozenset({"avi"})
"""Containers without presentation times: those that FFmpeg gives are decode times. Frames are counted."""
UNSEEKABLE_FORMATS = frozenset({"mpeg", "mpegts"})
"""Containers (.mpg, .vob, .ts) where several frames share one packet and its time stamp: FFmpeg reckons the
others' from those before, and after a seek there are none. They are read from the beginning."""
KEPT = 4
"""Scans that are kept: an hour's time stamps take 4 MB."""
CUT_OFF = Fraction(1, 2)
"""Seconds that a container may promise beyond its last packet before it counts as cut off."""


def open_container(path: str | os.PathLike[str]) -> InputContainer:
    """Open a media file for reading, for a `with`. Raises VideoError with the reason."""
    path = Path(path)
    if not path.exists():
        raise VideoError(f"video {path} does not exist: check the path")
    if not path.is_file():
        raise VideoError(f"video {path} is not a file: give one video file")
    if path.stat().st_size == 0:
        raise VideoError(f"video {path} is empty (0 bytes): copy or download it again")
    try:
        # An absolute path is never taken for a URL, nor may a playlist lead elsewhere.
        options = {"protocol_whitelist": "file"}
        return av.open(str(path.absolute()), container_options=options, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise VideoError(
            f"{path} cannot be read as a video ({error.strerror}): it is of another kind, or cut off before"
            f" its index; copy it again or convert it to mp4"
        ) from error


def video_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    """The stream of moving pictures (a cover picture is none). Raises VideoError where there is none."""
    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        raise VideoError(f"{path} is a picture, not a video: give a video to dance after")
    streams = _moving_pictures(container)
    if not streams:
        kind = "only sound" if container.streams.audio else "no video"
        raise VideoError(f"{path} holds {kind}: give a file with a video stream")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if stream.codec_context is None:
        raise VideoError(f"{path} is coded in a way that cannot be decoded here: convert it to H.264 mp4")
    return stream


def has_video(container: InputContainer) -> bool:
    """Whether there is a stream of moving pictures."""
    return bool(_moving_pictures(container))


def _moving_pictures(container: InputContainer) -> list[VideoStream]:
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def sound_stream(container: InputContainer) -> AudioStream | None:
    """The sound that players take: the first track that is marked as default, else the first."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    marked = [stream for stream in streams if stream.disposition & Disposition.default]
    return next(iter([*marked, *streams]), None)


def nothing_decodes(path: str | os.PathLike[str]) -> VideoError:
    return VideoError(f"no frame of {path} can be decoded: copy it again or convert it to H.264 mp4")


def check_size(path: str | os.PathLike[str], width: int, height: int, max_pixels: int) -> None:
    """VideoError where a frame of this size is larger than `max_pixels`."""
    if width * height > max_pixels:
        raise VideoError(
            f"{path} has frames of {width}x{height}: more than {max_pixels / 1e6:.3g} million pixels need "
            f"--max-pixels, or scale the video down"
        )


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """Demux to the end of the file, or to where it cannot be read on; the last packets flush the decoders."""
    try:
        yield from container.demux(*streams)
    except FFmpegError:
        for stream in streams:
            packet = Packet()
            packet.stream = stream
            yield packet


def moved_packets(container: InputContainer, stream: Stream, jumps: Sequence[Jump]) -> Iterator[Packet]:
    """The packets of a stream from its beginning on, their times moved where the clock jumps."""
    number, left, by = 0, list(jumps), Fraction(0)
    for packet in packets(container, stream):
        if packet.size:
            while left and left[0].packet <= number:
                by = left.pop(0).by
            number += 1
            if jumps:
                packet.dts = None  # that of a frame may be on the other side of a jump
                packet.pts = None if packet.pts is None else packet.pts + round(by / packet.time_base)
        yield packet


@dataclass(frozen=True, slots=True)
class Scan:
    """What the packets of a file say: its timeline; `missing` frames that it promises beyond its last packet.

    Without `timed` the file has no time stamps, and the timeline counts frames; only where it is `seekable`
    are they right after a seek. `aspect` is the width of a pixel over its height. `notes` are lines on what
    the file says of itself that was passed over. `origin` is the time of the first frame by the file's own
    clock, seconds; where that jumps, `jumps` and `sound_jumps` tell for both streams.
    """

    timeline: Timeline
    origin: Fraction
    timed: bool
    seekable: bool
    missing: int
    has_audio: bool
    aspect: Fraction
    notes: tuple[str, ...]
    jumps: tuple[Jump, ...] = ()
    sound_jumps: tuple[Jump, ...] = ()


def scan(path: str | os.PathLike[str], max_pixels: int | None = None) -> Scan:
    """Read the time stamps of all packets of a video; nothing is decoded. Raises VideoError as `probe`.

    What was read last is kept: the many clips of a long video would have all of it read again for each.
    """
    try:
        about = Path(path).stat()
    except OSError:
        return _scan(path, max_pixels)  # which says what is wrong with it
    return _kept_scan(Path(path), max_pixels, about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=KEPT)
def _kept_scan(path: Path, max_pixels: int | None, size: int, changed: int, inode: int) -> Scan:
    return _scan(path, max_pixels)


def _scan(path: str | os.PathLike[str], max_pixels: int | None) -> Scan:
    with open_container(path) as container:
        stream = video_stream(container, path)
        if max_pixels is not None:
            check_size(path, stream.codec_context.width, stream.codec_context.height, max_pixels)
        assert stream.time_base is not None
        promised = len(stream.index_entries)
        shown: list[int | None] = []
        decoded: list[int | None] = []
        lengths: list[int] = []
        unseen: set[int] = set()
        sound, heard, heard_for = sound_stream(container), [], []
        last_end, shows_none = Fraction(0), hidden_packets(stream.codec_context)
        for packet in packets(container, *container.streams):
            if packet.size == 0:  # flushes the decoder
                continue
            if packet.pts is not None:
                last_end = max(last_end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream.index == stream.index:
                if shows_none(packet) or packet.is_discard:
                    unseen.add(len(shown))
                shown.append(packet.pts)
                decoded.append(packet.dts)
                lengths.append(packet.duration or 0)
            elif sound is not None and packet.stream.index == sound.index:
                heard.append(packet.pts)
                heard_for.append(packet.duration or 0)
        has_audio = sound is not None
        sound_tick = None if sound is None else sound.time_base
        rates = [rate for rate in (stream.average_rate, stream.base_rate) if rate]
        nominal = stream.guessed_rate or RATE_OF_ONE_FRAME
        promised_end = Fraction((container.start_time or 0) + (container.duration or 0), av.time_base)
        tick, container_format = stream.time_base, container.format.name
        given_aspect = stream.sample_aspect_ratio
    if len(unseen) == len(shown):
        raise nothing_decodes(path)
    video = Packets(shown, decoded, lengths, tick)
    audio = None if sound_tick is None else Packets(heard, heard, heard_for, sound_tick)
    counted = container_format in UNTIMED_FORMATS
    jumps = () if counted else jumps_of_video(video, audio)
    sound_jumps = () if audio is None or counted else jumps_of_sound(audio, video)
    if jumps:
        by = [int(seconds / tick) for seconds in added(jumps, len(shown))]
        shown = [None if pts is None else pts + ticks for pts, ticks in zip(shown, by, strict=True)]
    kept = [each for n, each in enumerate(zip(shown, decoded, lengths, strict=True)) if n not in unseen]
    stamps = [(pts, duration) for pts, _, duration in kept if pts is not None]
    timed = not counted and 2 * len(stamps) > len(kept)
    if container_format == "mpeg" and len({pts for pts, _ in stamps}) < len(stamps):
        timed = False  # two frames cannot be shown at one time: the clock starts anew, or was guessed wrongly
    origin = min((pts for pts, _ in stamps), default=0) * tick
    places = {dts for _, dts, _ in kept if dts is not None} if counted else set()
    if timed:
        timeline = make_timeline([pts for pts, _ in stamps], max(stamps)[1], tick, rates)
    elif len(places) == len(kept):
        timeline, origin = make_sparse_timeline(list(places), tick, rates), min(places) * tick
    else:
        timeline = make_timeline(range(len(kept)), 1, 1 / nominal, [nominal])
    missing = max(0, promised - len(shown))
    if timed and not missing and promised_end - last_end > CUT_OFF:
        done = origin + len(kept) / timeline.rate if timeline.constant else last_end
        missing = max(0, round((promised_end - done) * timeline.rate))
    aspect, notes = pixel_aspect(given_aspect), [f"{path}: {line}" for line in told_jumps(jumps, sound_jumps)]
    if given_aspect and aspect != given_aspect:
        shape = f"{given_aspect.numerator}:{given_aspect.denominator}"
        notes.append(f"{path} claims that its pixels are {shape}: taken as square")
    seekable = timed and not jumps and container_format not in UNSEEKABLE_FORMATS
    return Scan(
        timeline, origin, timed, seekable, missing, has_audio, aspect, tuple(notes), jumps, sound_jumps
    )
