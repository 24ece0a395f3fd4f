"""PNG files without their texts: whole workflows are saved there, and Pillow refuses pictures with long ones.

Chunks: W3C, Portable Network Graphics (Third Edition), 5.3; texts: 11.3.3.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
WITH_ORIENTATION = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
"""Names of texts that may tell how the picture is turned: ImageMagick's EXIF, and XMP."""
LARGEST_TEXT = 2**20
"""Bytes of such a text, unpacked, that are read: as many as Pillow takes."""


def without_texts(path: Path) -> Path | IO[bytes]:
    """What is to be read for a picture: the file itself or, of a PNG with texts, the bytes of the rest.

    Short texts that may hold the orientation stay. A file that ends within a chunk is left as it is from
    there on.
    """
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return path
        left_out = list(_texts(file))
        if not left_out:
            return path
        rest, at = io.BytesIO(), 0
        for start, stop in left_out:
            file.seek(at)
            rest.write(file.read(start - at))
            at = stop
        file.seek(at)
        rest.write(file.read())
    rest.seek(0)
    return rest


def _texts(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """From where to where in a PNG its texts lie that are not to be read, their chunks whole."""
    start = file.tell()
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        stop = start + length + 12
        if kind in TEXTS and not (length <= LARGEST_TEXT and _tells_orientation(kind, file.read(length))):
            yield start, stop
        start = file.seek(stop)


def _tells_orientation(kind: bytes, chunk: bytes) -> bool:
    """Whether a text may hold the picture's orientation, and is short."""
    name, _, value = chunk.partition(b"\0")
    if name not in WITH_ORIENTATION:
        return False
    if kind == b"zTXt":
        packed = value[1:]
    elif kind == b"iTXt" and value[:1] != b"\0":
        packed = value[2:].split(b"\0", 2)[-1]
    else:
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, LARGEST_TEXT)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail
