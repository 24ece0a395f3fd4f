"""H.264 pictures that are coded as two fields are counted once, whichever way they are packed."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest

from posedance.stages.media.video import Clip, DecodeReport, probe


class Writer:
    """Bits of H.264 headers."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, value: int, count: int) -> "Writer":
        self.bits += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> "Writer":
        for value in values:
            code = f"{value + 1:b}"
            self.bits += "0" * (len(code) - 1) + code
        return self

    def aligned(self) -> bytes:
        bits = self.bits + "0" * (-len(self.bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8)


def unit(kind: int, payload: bytes) -> bytes:
    """A NAL unit of annex B, with the bytes that keep start codes out."""
    safe, zeros = bytearray(), 0
    for byte in payload:
        if zeros == 2 and byte <= 3:
            safe.append(3)
            zeros = 0
        safe.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([3 << 5 | kind]) + bytes(safe)


def parameters() -> bytes:
    """160x32 pixels, field pictures allowed, CAVLC."""
    sps = (
        Writer().u(77, 8).u(0, 8).u(30, 8).ue(0, 0, 0, 0, 1).u(0, 1).ue(9, 0).u(0, 1).u(0, 1).u(1, 1).u(0, 1)
    )
    pps = Writer().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(1, 1).u(0, 2)
    return unit(7, sps.u(0, 1).u(1, 1).aligned()) + unit(8, pps.u(1, 1).aligned())


def picture(number: int, bottom: bool | None) -> bytes:
    """One field, or with None a frame, whose ten columns of raw macroblocks hold `number` in binary."""
    first = number == 0 and not bottom
    header = Writer().ue(0, 7, 0).u(number % 16, 4)
    header.u(0, 1) if bottom is None else header.u(1, 1).u(bottom, 1)
    if first:
        header.ue(0)
    header.u((2 * number + bool(bottom)) % 16, 4)
    header.u(0, 2 if first else 1).ue(0, 1)  # reference marking, quantizer, no deblocking
    data = b""
    rows = 2 if bottom is None else 1
    for _, column in itertools.product(range(rows), range(10)):
        header.ue(25)  # I_PCM
        data += header.aligned() + bytes([210 if number >> column & 1 else 40] * 256 + [128] * 128)
        header = Writer()
    return unit(5 if first else 1, data + b"\x80")


def fields(count: int) -> list[list[bytes]]:
    """The packets of each picture: two fields, but every fourth picture is a frame."""
    pictures = []
    for number in range(count):
        parts = [None] if number % 4 == 3 else [False, True]
        pictures.append([picture(number, part) for part in parts])
    pictures[0][0] = parameters() + pictures[0][0]
    return pictures


@pytest.mark.parametrize("packing", ["a packet each", "both in one"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_two_fields_are_one_picture(tmp_path: Path, numbers, suffix: str, packing: str):
    pictures = fields(40)
    raw, path = tmp_path / "v.h264", tmp_path / f"v{suffix}"
    raw.write_bytes(b"".join(part for parts in pictures for part in parts))
    with av.open(str(raw)) as given, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for number, parts in enumerate(pictures):
            for half, part in enumerate(parts if packing == "a packet each" else [b"".join(parts)]):
                packet = av.Packet(part)
                packet.pts, packet.dts = 2 * number + half, 2 * number + half
                packet.duration = 1 if len(part) < 5000 else 2
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 50), stream, number == 0
                output.mux(packet)
    report = DecodeReport()
    assert numbers(path, report=report) == list(range(40))
    info = probe(path)
    assert (info.num_frames, info.fps) == (40, 25)
    assert (report.decoded, report.lost) == (40, 0)
    assert numbers(path, Clip(start=Fraction(2, 5), duration=Fraction(2, 5))) == list(range(10, 20))
