"""Packets that show no picture of their own.

VP8 and VP9 code frames from which alone later ones are predicted; H.264 may code a picture as two fields.
"""

from collections.abc import Callable
from functools import partial

from av.codec.context import CodecContext
from av.packet import Packet

from .fields import SecondFields

SUPERFRAME = 0b110
"""Upper bits of the first and last byte of the index behind several VP9 frames in one packet (annex B)."""


def hidden_packets(context: CodecContext) -> Callable[[Packet], bool]:
    """Says of each packet of a stream, in their order, whether it shows no picture of its own."""
    name = context.codec.canonical_name
    return SecondFields(context.extradata) if name == "h264" else partial(is_hidden, name)


def is_hidden(codec: str, packet: Packet) -> bool:
    """Whether a packet with data holds one frame of VP8 (RFC 6386, 9.1) or VP9 (6.2) that is not shown."""
    if codec == "vp8":
        return not memoryview(packet)[0] >> 4 & 1
    if codec == "vp9":
        data = memoryview(packet)
        return not _is_superframe(data) and not _shows(data)
    return False


def _is_superframe(data: memoryview) -> bool:
    """Whether a VP9 packet ends in an index of several frames, one of which is shown."""
    marker = data[-1]
    length = 2 + ((marker & 7) + 1) * ((marker >> 3 & 3) + 1)
    return marker >> 5 == SUPERFRAME and len(data) >= length and data[-length] == marker


def _shows(data: memoryview) -> bool:
    """Whether the uncompressed header of a VP9 frame has show_frame or show_existing_frame."""
    bits = int.from_bytes(data[:2].tobytes().ljust(2, b"\0"))
    profile = (bits >> 13 & 1) | (bits >> 12 & 1) << 1
    at = 11 - (profile == 3)  # a reserved bit
    return bool(bits >> at & 1 or bits >> (at - 2) & 1)
