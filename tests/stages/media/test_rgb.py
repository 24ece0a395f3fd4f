"""Frames as people see them: square pixels, upright, whatever side data they carry."""

import io
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from posedance.stages.media.rgb import pixel_aspect, square_size
from posedance.stages.media.video import Clip, DecodeReport, probe, read_frames

DISC = 70
"""Diameter in square pixels of the disc that `squeezed_disc` draws."""


def squeezed_disc(aspect: Fraction):
    """A drawing function: a disc that is round where pixels have this aspect."""

    def draw(index: int, width: int, height: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        x_scale, y_scale = (float(aspect), 1.0) if aspect >= 1 else (1.0, float(1 / aspect))
        away = np.hypot((x - (width - 1) / 2) * x_scale, (y - (height - 1) / 2) * y_scale)
        return np.repeat(np.where(away < DISC / 2, 230, 30).astype(np.uint8)[..., None], 3, axis=2)

    return draw


def extent(frame: np.ndarray) -> tuple[int, int]:
    """Width and height of what is bright."""
    rows, columns = np.nonzero(frame[..., 1] > 128)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def set_aspect(aspect: Fraction):
    def prepare(stream) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    return prepare


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mpg"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 11), Fraction(8, 9), Fraction(1, 2)])
def test_pixels_are_square_in_every_container(tmp_path, make_video, suffix, aspect):
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    if codec == "mpeg2video":  # it names the aspect of the whole picture, one of three
        aspect = Fraction(16, 9) / Fraction(144, 108)
    path = make_video(
        tmp_path / f"v{suffix}",
        4,
        size=(144, 108),
        codec=codec,
        options={"b": "4000000"} if codec == "mpeg2video" else None,
        draw=squeezed_disc(aspect),
        prepare=set_aspect(aspect),
    )
    expected = (round(144 * aspect), 108) if aspect >= 1 else (144, round(108 / aspect))
    info = probe(path)
    assert (info.width, info.height) == expected
    for frame in read_frames(path, Clip()):
        assert frame.shape == (info.height, info.width, 3)
        width, height = extent(frame)
        assert abs(width - DISC) <= 2
        assert abs(height - DISC) <= 2


def name_display_size(path: Path, width: int, height: int) -> None:
    """Let a Matroska file's track name the size to show it in, in place of its element for colours.

    FFmpeg's muxer writes it only where the encoder's data do too, so the bytes are changed here (RFC 9559).
    """
    data = path.read_bytes()
    pixel_height = data.index(b"\xba\x81" + bytes([height]))
    start = data.index(b"\x55\xb0", pixel_height)
    length = 3 + (data[start + 2] & 127)
    size = b"\x54\xb0\x81" + bytes([width]) + b"\x54\xba\x81" + bytes([height])
    void = bytes([0xEC, 0x80 | length - len(size) - 2])
    data = data.replace(b"\x54\xb2\x81\x04", b"\x54\xb2\x81\x00")  # DisplayUnit: pixels, not "unknown"
    path.write_bytes(data[:start] + (size + void).ljust(length, b"\0") + data[start + length :])


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libvpx-vp9"), (".mov", "qtrle")])
def test_an_aspect_that_the_container_alone_names_counts(tmp_path, make_video, suffix, codec):
    """Neither codec has a place for it in its own data."""
    aspect, pixels = Fraction(4, 3), "rgb24" if codec == "qtrle" else "yuv420p"

    def prepare(stream) -> None:
        set_aspect(aspect)(stream)
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # BT.709

    path = make_video(
        tmp_path / f"v{suffix}",
        4,
        size=(144, 108),
        codec=codec,
        pix_fmt=pixels,
        options={"crf": "10", "cpu-used": "8"} if codec == "libvpx-vp9" else {},
        draw=squeezed_disc(aspect),
        prepare=prepare,
    )
    if suffix == ".mkv":
        name_display_size(path, 192, 108)
    info = probe(path)
    assert (info.width, info.height) == (192, 108)
    for frame in read_frames(path, Clip()):
        assert frame.shape == (108, 192, 3)
        assert max(abs(side - DISC) for side in extent(frame)) <= 2


@pytest.mark.parametrize(("aspect", "rotation"), [*product([Fraction(3, 2), Fraction(2, 3)], [-90, 90, 180])])
def test_pixels_become_square_before_the_picture_is_turned(tmp_path, make_video, aspect, rotation):
    def prepare(stream) -> None:
        set_aspect(aspect)(stream)
        stream.set_display_rotation(rotation)

    path = make_video(tmp_path / "v.mov", 2, size=(144, 108), draw=squeezed_disc(aspect), prepare=prepare)
    upright = (216, 108) if aspect > 1 else (144, 162)
    info = probe(path)
    assert (info.width, info.height) == (upright if rotation == 180 else upright[::-1])
    frame = next(read_frames(path, Clip()))
    assert frame.shape[:2] == (info.height, info.width)
    assert max(abs(side - DISC) for side in extent(frame)) <= 2


@pytest.mark.parametrize("aspect", [Fraction(20), Fraction(1, 77), Fraction(9, 2)])
def test_nonsense_of_an_aspect_is_passed_over_and_said(tmp_path, make_video, aspect):
    path = make_video(tmp_path / "v.mov", 2, prepare=set_aspect(aspect))
    info = probe(path)
    assert (info.width, info.height) == (160, 96)
    report = DecodeReport()
    assert next(read_frames(path, Clip(), report)).shape == (96, 160, 3)
    (note,) = report.notes
    assert f"{aspect.numerator}:{aspect.denominator}" in note
    assert "\n" not in note


def test_square_pixels_are_left_alone(tmp_path, make_video):
    report = DecodeReport()
    path = make_video(tmp_path / "v.mp4", 2, prepare=set_aspect(Fraction(1)))
    assert [frame.shape for frame in read_frames(path, Clip(), report)] == [(96, 160, 3)] * 2
    assert report.notes == []


@given(st.integers(16, 4096), st.integers(16, 4096), st.fractions(Fraction(1, 4), 4))
def test_square_size_keeps_the_shape_and_loses_no_detail(width, height, aspect):
    wide, high = square_size(width, height, aspect)
    assert wide >= width
    assert high >= height
    assert (wide, high)[aspect >= 1] == (width, height)[aspect >= 1]
    shape = Fraction(wide, high) / (Fraction(width, height) * aspect)
    assert abs(shape - 1) <= Fraction(1, 2 * min(width, height))


@pytest.mark.parametrize("given_aspect", [None, Fraction(0), Fraction(-1, 2), Fraction(10**6)])
def test_an_aspect_that_cannot_be_is_one(given_aspect):
    assert pixel_aspect(given_aspect) == 1


def corner_marks() -> np.ndarray:
    image = np.full((96, 160, 3), 60, np.uint8)
    image[:48, :80] = 220
    image[48:, :40] = 140
    return image


def motion_jpeg_with_exif(path: Path, orientation: int) -> Path:
    """As some cameras write it: each frame a whole JPEG file, with its EXIF."""
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = orientation, "camera"
    Image.fromarray(corner_marks()).save(data, "JPEG", exif=exif, quality=95)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        output.start_encoding()
        for index in range(3):
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            packet.duration = 1
            output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (4, lambda image: image[::-1]),
        (6, lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
        (8, lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)),
    ],
)
def test_side_data_without_a_name_is_passed_over(tmp_path, orientation, turn):
    """PyAV has no name for EXIF, nor for the views of spatial video; the display matrix beside it counts."""
    path = motion_jpeg_with_exif(tmp_path / "v.mkv", orientation)
    with av.open(str(path)) as container, pytest.raises(ValueError, match="not a valid Type"):
        next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    expected = turn(corner_marks())
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    frames = list(read_frames(path, Clip()))
    assert len(frames) == 3
    for frame in frames:
        assert np.abs(frame.astype(int) - expected).mean() < 5
