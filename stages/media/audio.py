"""The sound that goes with a video: cut from a source, copied where mp4 can hold it, else coded anew."""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.packet import Packet

from ..errors import VideoError
from .clock import Jump
from .container import UNSEEKABLE_FORMATS, has_video, moved_packets, open_container, scan, sound_stream

COPIED_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
"""Codecs that mp4 holds and players play: their packets are copied as they are."""
AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
AAC_RATE = 48000
"""Sample rate of the AAC where the source's is none of AAC's."""
AAC_BIT_RATE = 192_000
FLAC_CHANNELS = 8

ENDLESS = Fraction(10**9)
"""Seconds that no sound lasts."""

SEEK_MARGIN = Fraction(1)
"""Seconds before the cut that are sought: more than a packet, so that the one before the cut is read."""


@dataclass(frozen=True, slots=True)
class AudioSource:
    """The sound of the file `path` from `start` for `duration` seconds (None: as long as the video).

    Seconds count from the file's first video frame, as those of a `Clip` do, or from the first sample of a
    file without video. For the sound of a clip, `start` is `video.clip_start(info, clip)`.
    """

    path: str | os.PathLike[str]
    start: Fraction = Fraction(0)
    duration: Fraction | None = None


def origin_of(
    container: InputContainer, stream: AudioStream, path: str | os.PathLike[str]
) -> tuple[Fraction, tuple[Jump, ...]]:
    """The second by the file's own clock from which an AudioSource counts, and where that clock jumps."""
    assert stream.time_base is not None
    if has_video(container):
        found = scan(path)
        return found.origin, found.sound_jumps
    return (stream.start_time or 0) * stream.time_base, ()


class AudioTrack:
    """The audio stream of an output file; `mux_until` moves the sound up to a time into the file.

    The first packet may begin before time 0 (the one before it goes along, since a decoder needs it to start
    cleanly): mp4 notes in its edit list where the sound begins. The last packet ends at the limit or before.
    With `lossless` it is FLAC of 24 bits, of any source: Matroska has no edit list.
    """

    def __init__(
        self, output: OutputContainer, source: AudioSource, stack: ExitStack, *, lossless: bool = False
    ) -> None:
        self._output = output
        self._path = source.path
        self._limit = source.duration
        self._packets: Iterator[Packet] = iter(())
        self._next: Packet | None = None
        container = stack.enter_context(open_container(source.path))
        stream = sound_stream(container)
        if stream is None:
            return
        assert stream.time_base is not None
        origin, jumps = origin_of(container, stream, source.path)
        offset = origin + source.start
        if source.start > 0 and not jumps and container.format.name not in UNSEEKABLE_FORMATS:
            container.seek(math.floor((offset - SEEK_MARGIN) / stream.time_base), stream=stream)
        if lossless:
            layout = stream.layout.name if stream.channels <= FLAC_CHANNELS else "stereo"
            coded = output.add_stream("flac", rate=stream.sample_rate, layout=layout, format="s32")
            self._packets = _encoded(moved_packets(container, stream, jumps), stream, coded, offset)
        elif stream.codec_context.codec.canonical_name in COPIED_CODECS:
            copied = output.add_stream_from_template(stream)
            self._packets = _copied(
                moved_packets(container, stream, jumps), copied, stream.sample_rate, offset
            )
        else:
            rate = stream.sample_rate if stream.sample_rate in AAC_RATES else AAC_RATE
            layout = "mono" if stream.channels == 1 else "stereo"
            coded = output.add_stream("aac", rate=rate, layout=layout, bit_rate=AAC_BIT_RATE)
            self._packets = _encoded(moved_packets(container, stream, jumps), stream, coded, offset)

    def mux_until(self, time: Fraction) -> None:
        """Write the packets that end by `time` seconds of the output (or by the source's duration).

        Raises VideoError for a packet that the file cannot hold: that is the source's fault.
        """
        time = time if self._limit is None else min(time, self._limit)
        while True:
            self._next = self._next or next(self._packets, None)
            if self._next is None or _end(self._next) > time:
                return
            try:
                self._output.mux(self._next)
            except (InvalidDataError, ArgumentError) as error:
                raise VideoError(
                    f"the sound of {self._path} cannot be written ({error.strerror}): convert it, or leave "
                    "it out with --encode.no-audio"
                ) from error
            self._next = None


def try_sound(source: AudioSource, *, lossless: bool = False) -> None:
    """Write the sound into memory, to know before long work whether it can be. VideoError where not."""
    with ExitStack() as stack:
        kind = "matroska" if lossless else "mp4"
        output = stack.enter_context(av.open(BytesIO(), "w", format=kind))
        track = AudioTrack(output, source, stack, lossless=lossless)
        output.start_encoding()
        track.mux_until(ENDLESS)


def _end(packet: Packet) -> Fraction:
    return ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base


def _copied(source: Iterator[Packet], target: AudioStream, rate: int, offset: Fraction) -> Iterator[Packet]:
    """Packets from the one before time 0 on, their times less `offset` seconds, which increase."""
    tick = Fraction(1, rate)  # the source's own may be as coarse as a packet
    before: Packet | None = None
    for packet in _one_after_another(_from(offset, source, target, tick)):
        if _end(packet) <= 0:
            before = packet
            continue
        if before is not None:
            yield before
            before = None
        yield packet


def _from(
    offset: Fraction, source: Iterator[Packet], target: AudioStream, tick: Fraction
) -> Iterator[Packet]:
    """The packets that have a time, in ticks from `offset` seconds on."""
    for packet in source:
        if packet.size == 0 or packet.pts is None:
            continue
        time, duration = packet.pts * packet.time_base - offset, (packet.duration or 0) * packet.time_base
        packet.stream, packet.time_base = target, tick
        packet.pts = packet.dts = round(time / tick)
        packet.duration = round(duration / tick)
        yield packet


def _one_after_another(source: Iterator[Packet]) -> Iterator[Packet]:
    """Packets whose times increase: of two that share a time, the second fills a gap beside them or goes.

    So do packets of joined files that overlap by more than half. What comes later keeps its time.
    """
    held: Packet | None = None
    spare: list[Packet] = []
    last = usual = None  # the time of the packet before `held`, and the shortest distance of two
    for packet in source:
        if held is None:
            held = packet
            continue
        assert held.pts is not None and packet.pts is not None
        step = packet.pts - held.pts
        length = min(each for each in (held.duration or 1, usual) if each is not None)
        if step < 1 or 2 * step < length:
            if last is None or 2 * (held.pts - last) < 3 * length:
                spare.append(packet)
                continue
            held.pts = held.dts = held.pts - length
        else:
            usual = step if usual is None else min(usual, step)
        yield held
        last = held.pts
        for other in spare:
            if 2 * (packet.pts - last) < 3 * length:
                break
            other.pts = other.dts = last = last + length
            yield other
        held, spare = packet, []
    if held is not None:
        yield held


def _encoded(
    source: Iterator[Packet], stream: AudioStream, target: AudioStream, offset: Fraction
) -> Iterator[Packet]:
    """The sound from `offset` seconds on, coded; gaps become silence, so that the rest stays in time."""
    tick = Fraction(1, stream.sample_rate)
    if not target.codec_context.is_open:
        target.codec_context.open()
    resampler = AudioResampler(
        format=target.format,
        layout=target.layout,
        rate=target.sample_rate,
        frame_size=target.codec_context.frame_size,
        options={"async": "1", "first_pts": "0"},
    )
    for packet in source:
        try:
            frames = stream.decode(packet)
        except FFmpegError:
            continue
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                time = frame.pts * frame.time_base - offset
                frame.pts, frame.time_base = round(time / tick), tick
                for part in resampler.resample(frame):
                    yield from target.encode(part)
    for part in resampler.resample(None):
        yield from target.encode(part)
    yield from target.encode(None)
