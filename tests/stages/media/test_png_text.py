"""PNG pictures with long or odd texts are read, and what tells how they are turned still counts."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from posedance.stages.errors import PictureError
from posedance.stages.media.picture import picture_size, read_picture
from posedance.stages.media.png_text import without_texts
from posedance.stages.media.video import probe

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
WORKFLOW = "node " * 340_000
"""1.7 MB of text, as tools save their whole workflow."""
TURN_LEFT = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="8"/></x:xmpmeta>'


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def with_chunks(path: Path, *chunks: bytes, at_end: bool = False) -> Path:
    """A PNG with more chunks after its header, or before its end."""
    Image.fromarray(PIXELS).save(path)
    data = path.read_bytes()
    place = len(data) - 12 if at_end else 33
    path.write_bytes(data[:place] + b"".join(chunks) + data[place:])
    return path


PACKED = zlib.compress(WORKFLOW.encode())
TEXTS = {
    "packed": chunk(b"zTXt", b"workflow\0\0" + PACKED),
    "international": chunk(b"iTXt", b"workflow\0\1\0\0\0" + PACKED),
    "several": chunk(b"tEXt", b"prompt\0" + b"x" * 70_000) * 1000,
    "of an unknown packing": chunk(b"zTXt", b"workflow\0\7" + PACKED),
    "with a wrong checksum": chunk(b"tEXt", b"workflow\0words", crc=1),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKED),
}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("kind", TEXTS)
def test_texts_are_passed_over(tmp_path, kind, at_end):
    path = with_chunks(tmp_path / "a.png", TEXTS[kind], at_end=at_end)
    assert np.array_equal(read_picture(path), PIXELS)
    assert picture_size(path) == (30, 20)


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_that_tells_how_the_picture_is_turned_counts(tmp_path, packed):
    text = zlib.compress(TURN_LEFT.encode()) if packed else TURN_LEFT.encode()
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed]) + b"\0\0\0" + text)
    path = with_chunks(tmp_path / "a.png", TEXTS["packed"], xmp)
    assert np.array_equal(read_picture(path), np.rot90(PIXELS, 1))


def test_an_animation_with_a_workflow_is_a_driving_video(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", WORKFLOW, zip=True)
    first, *others = (Image.fromarray(np.roll(PIXELS, i, 1)) for i in range(6))
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=40, pnginfo=texts)
    assert probe(tmp_path / "a.png").num_frames == 6


def test_pictures_without_texts_are_read_as_they_are(tmp_path):
    path = with_chunks(tmp_path / "a.png")
    assert without_texts(path) is path
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    assert without_texts(tmp_path / "a.jpg") == tmp_path / "a.jpg"


def test_a_picture_that_is_cut_off_after_a_text_is_still_damaged(tmp_path):
    path = with_chunks(tmp_path / "a.png", TEXTS["packed"])
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(PictureError, match="is damaged"):
        read_picture(path)
