"""H.264 that codes a picture as two fields, each in a packet of its own: which packets are second fields.

Sections, tables and names are those of ITU-T H.264. Only headers are read, and only of interlaced video.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from av.packet import Packet

SLICES = (1, 5)
SPS = 7
HEADER_BYTES = 64
"""Bytes of a NAL unit of a slice that are looked at: its header's beginning lies in the first few."""
WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose sequence parameters tell the chroma format (7.3.2.1.1)."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """Of the sequence parameters what a slice header needs: bits of frame_num, colour_plane_id, and whether
    there are no fields."""

    frame_num_bits: int
    planes: bool
    frames_only: bool


class SecondFields:
    """Says of each packet of an H.264 stream, in their order, whether it is the second field of a picture."""

    def __init__(self, extradata: bytes | None) -> None:
        data = extradata or b""
        self._length_size = (data[4] & 3) + 1 if data[:1] == b"\1" and len(data) > 6 else None
        self._sequence = self._of(_avcc_units(data) if self._length_size else _annex_b_units(data))
        self._first: tuple[int, bool] | None = None

    def __call__(self, packet: Packet) -> bool:
        """Whether this packet completes the picture that the one before it began."""
        if self._sequence is not None and self._sequence.frames_only and not packet.is_keyframe:
            return False
        data = bytes(packet)
        units = list(_sized_units(data, self._length_size) if self._length_size else _annex_b_units(data))
        self._sequence = self._of(units) or self._sequence
        if self._sequence is None or self._sequence.frames_only:
            return False
        fields = {field for unit in units if (field := self._field_of(unit, self._sequence)) is not None}
        begun, self._first = self._first, None
        if len(fields) != 1:  # a frame, or both its fields
            return False
        (field,) = fields
        if begun == (field[0], not field[1]):
            return True
        self._first = field
        return False

    @staticmethod
    def _of(units: "Iterator[bytes] | list[bytes]") -> Sequence | None:
        found = [unit for unit in units if unit[:1] and unit[0] & 31 == SPS]
        try:
            return _sequence(found[-1]) if found else None
        except IndexError:  # cut off
            return None

    @staticmethod
    def _field_of(unit: bytes, sequence: Sequence) -> tuple[int, bool] | None:
        """frame_num and bottom_field_flag of a slice of a field (7.3.3); None for any other unit."""
        if not unit or unit[0] & 31 not in SLICES:
            return None
        try:
            bits = _Bits(unit[1:HEADER_BYTES])
            for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
                bits.golomb()
            if sequence.planes:
                bits.take(2)
            frame_num = bits.take(sequence.frame_num_bits)
            return (frame_num, bool(bits.take(1))) if bits.take(1) else None
        except IndexError:
            return None


class _Bits:
    """The bits of a NAL unit's payload (7.3.1), without the bytes that keep start codes out. IndexError."""

    def __init__(self, payload: bytes) -> None:
        self._data, self._at = payload.replace(b"\0\0\3", b"\0\0"), 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - self._at % 8) & 1
            self._at += 1
        return value

    def golomb(self) -> int:
        """ue(v), 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """se(v), 9.1.1."""
        value = self.golomb()
        return (value + 1) // 2 if value % 2 else -(value // 2)


def _sequence(unit: bytes) -> Sequence:
    """The sequence parameters (7.3.2.1.1) of their NAL unit."""
    bits = _Bits(unit[1:])
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()
    planes = False
    if profile in WITH_CHROMA:
        chroma = bits.golomb()
        planes = chroma == 3 and bool(bits.take(1))
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    bits.take(1)
    bits.golomb()
    bits.golomb()
    return Sequence(frame_num_bits, planes, bool(bits.take(1)))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    """7.3.2.1.1.1."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _annex_b_units(data: bytes) -> Iterator[bytes]:
    """NAL units between start codes (annex B)."""
    start = data.find(b"\0\0\1")
    while start >= 0:
        stop = data.find(b"\0\0\1", start + 3)
        yield data[start + 3 : stop if stop >= 0 else None]
        start = stop


def _sized_units(data: bytes, size: int) -> Iterator[bytes]:
    """NAL units that each have their length before them, as in mp4 (ISO 14496-15)."""
    at = 0
    while at + size < len(data):
        stop = at + size + int.from_bytes(data[at : at + size])
        yield data[at + size : stop]
        at = stop


def _avcc_units(data: bytes) -> Iterator[bytes]:
    """The sequence parameters in an avcC box (ISO 14496-15, 5.3.3)."""
    at = 6
    for _ in range(data[5] & 31):
        stop = at + 2 + int.from_bytes(data[at : at + 2])
        yield data[at + 2 : stop]
        at = stop
