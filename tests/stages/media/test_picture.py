"""Pictures: every kind is read as RGB and upright, fitted as published; bad ones say why."""

import io
import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from posedance.stages.errors import OutputError, PictureError
from posedance.stages.media.picture import contact_sheet, draw_label, fit_cover, read_picture, write_png


def test_golden_reference_image_fit(golden):
    cases = sorted((golden / "reference_image_fit").glob("case*_input_*.png"))
    assert cases
    for case in cases:
        (expected,) = case.parent.glob(f"{case.name.split('_')[0]}_output_*.png")
        target = read_picture(expected)
        height, width = target.shape[:2]
        fitted = fit_cover(read_picture(case), width, height, published=True)
        np.testing.assert_array_equal(fitted, target, err_msg=case.name)


def test_golden_reference_image_fit_sizes(golden):
    folder = golden / "reference_image_fit"
    for case in json.loads((folder / "meta.json").read_text())["cases"]:
        image = np.zeros((*case["input_hw"], 3), np.uint8)
        height, width = case["target_hw"]
        for published in (False, True):
            assert fit_cover(image, width, height, published=published).shape == (height, width, 3)


def checkers(height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3]: single pixels of black and white, which are grey from afar."""
    y, x = np.mgrid[:height, :width]
    return np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("size", [(192, 341), (230, 300), (101, 57), (320, 480)])
def test_a_photo_is_shrunk_without_moire(size):
    photo = checkers(800, 600)
    grey = fit_cover(photo, *size)
    assert abs(float(grey.mean()) - 127.5) < 1
    assert float(grey.std()) < 1
    assert float(fit_cover(photo, *size, published=True).std()) > 20


def test_a_contact_sheet_is_shrunk_without_moire():
    sheet = contact_sheet([np.full((144, 81, 3), 128, np.uint8), checkers(512, 288)], columns=2)
    assert float(sheet[:, 81:].std()) < 1


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    to_height=st.integers(1, 90),
    to_width=st.integers(1, 90),
    published=st.booleans(),
)
def test_fit_gives_the_size_asked_for_and_invents_no_levels(height, width, to_height, to_width, published):
    image = np.random.default_rng(height).integers(50, 200, (height, width, 3), np.uint8)
    fitted = fit_cover(image, to_width, to_height, published=published)
    assert fitted.shape == (to_height, to_width, 3)
    assert fitted.min() >= image.min()
    assert fitted.max() <= image.max()


@pytest.mark.parametrize("size", [(200, 88), (232, 56), (1024, 576)])
def test_a_picture_of_the_size_asked_for_is_left_alone(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(fit_cover(image, size[1], size[0]), image)


def colours() -> np.ndarray:
    """uint8 [40, 60, 3]: a red, a green, a blue and a grey quarter, so that turning it shows."""
    image = np.empty((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:] = (200, 30, 40), (40, 180, 50)
    image[20:, :30], image[20:, 30:] = (30, 60, 210), (90, 90, 90)
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_common_kinds(tmp_path, kind):
    Image.fromarray(colours()).save(
        tmp_path / "p", format=kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    image = read_picture(tmp_path / "p")
    assert image.dtype == np.uint8
    difference = np.abs(image.astype(int) - colours())
    assert difference.mean() < 5 if kind == "JPEG" else difference.max() == 0
    image[0, 0] = 7  # the array is the caller's own


def test_cmyk(tmp_path):
    Image.fromarray(colours()).convert("CMYK").save(tmp_path / "p.jpg", quality=95)
    with Image.open(tmp_path / "p.jpg") as stored:
        assert stored.mode == "CMYK"
    image = read_picture(tmp_path / "p.jpg").astype(int)
    for row, column in ((10, 15), (10, 45), (30, 15), (30, 45)):
        assert np.abs(image[row, column] - colours()[row, column]).max() <= 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "key"])
def test_transparency_becomes_white(tmp_path, mode):
    image = Image.fromarray(colours())
    if mode == "key":  # one colour declared transparent
        image.save(tmp_path / "p.png", transparency=(200, 30, 40))
    else:
        alpha = np.full((40, 60), 255, np.uint8)
        alpha[:20, :30] = 0
        image.putalpha(Image.fromarray(alpha))
        image = image.convert("LA") if mode == "LA" else image
        image = image.quantize(16) if mode == "palette" else image
        image.save(tmp_path / "p.png")
    got = read_picture(tmp_path / "p.png")
    assert (got[10, 15] == 255).all()
    assert not (got[10, 45] == 255).any()


def test_half_transparent_is_half_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 100, 200, 128)).save(tmp_path / "p.png")
    assert np.abs(read_picture(tmp_path / "p.png")[0, 0].astype(int) - (127, 177, 227)).max() <= 1


def test_palette_and_one_bit(tmp_path):
    Image.fromarray(colours()).quantize(8).save(tmp_path / "p.png")
    assert np.abs(read_picture(tmp_path / "p.png").astype(int) - colours()).max() <= 2
    Image.fromarray(colours()[..., 0] > 100).save(tmp_path / "q.png")
    assert set(np.unique(read_picture(tmp_path / "q.png"))) == {0, 255}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey(tmp_path, suffix):
    levels = np.array([[0, 257 * 100, 257 * 200, 65535]], np.uint16).repeat(4, axis=0)
    cv2.imwrite(str(tmp_path / f"p{suffix}"), levels)
    image = read_picture(tmp_path / f"p{suffix}")
    assert image.shape == (4, 4, 3)
    assert image[0, :, 0].tolist() == [0, 100, 200, 255]
    assert (image == image[..., :1]).all()


def test_16_bit_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), colours()[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png"), colours())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Each of the eight stored forms of one picture reads upright (EXIF 2.3, tag 0x0112)."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](colours())
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png"), colours())


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "p.gif")[0, 0].tolist() == [255, 0, 0]


def cut_picture(path: Path, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, format=kind)
    path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])


def bomb(path: Path, side: int) -> None:
    """A PNG that claims `side` x `side` pixels in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    )


BAD_PICTURES = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "not a file"),
    "empty": (lambda path: path.touch(), "empty"),
    "text": (lambda path: path.write_text("a dancer\n" * 50), "not a picture"),
    "PostScript": (
        lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not a pic",
    ),
    "truncated JPEG": (lambda path: cut_picture(path, "JPEG"), "damaged"),
    "truncated PNG": (lambda path: cut_picture(path, "PNG"), "damaged"),
    "truncated AVIF": (lambda path: cut_picture(path, "AVIF"), "damaged|not a picture"),
    "truncated HEIC": (lambda path: cut_picture(path, "HEIF"), "damaged|not a picture"),
    "truncated WEBP": (lambda path: cut_picture(path, "WEBP"), "damaged|not a picture"),
    "bomb": (lambda path: bomb(path, 11000), "million pixels"),
    "large bomb": (lambda path: bomb(path, 60000), "million pixels"),
    "float": (
        lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path, format="TIFF"),
        "floating",
    ),
    "32-bit": (
        lambda path: Image.fromarray(np.full((4, 4), 70000, np.int32)).save(path, format="TIFF"),
        "32-bit",
    ),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_a_bad_picture_says_why(tmp_path, kind):
    make, reason = BAD_PICTURES[kind]
    path = tmp_path / "hero.png"
    make(path)
    with pytest.raises(PictureError, match=reason) as caught:
        read_picture(path)
    assert "hero.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_real_references(samples):
    for path in samples.glob("*.jpeg"):
        image = read_picture(path)
        assert image.ndim == 3
        assert fit_cover(image, 576, 1024).shape == (1024, 576, 3)


def test_png_is_written_whole_or_not_at_all(tmp_path):
    write_png(tmp_path / "sheet.png", colours())
    np.testing.assert_array_equal(read_picture(tmp_path / "sheet.png"), colours())
    with pytest.raises(TypeError):
        write_png(tmp_path / "sheet.png", np.zeros((3, 3, 7), np.uint8))
    np.testing.assert_array_equal(read_picture(tmp_path / "sheet.png"), colours())
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    with pytest.raises(OutputError, match=r"nowhere.*sheet\.png.*choose a folder"):
        write_png(tmp_path / "nowhere" / "sheet.png", colours())
    with pytest.raises(OutputError, match="is a folder"):
        write_png(tmp_path, colours())


def test_contact_sheet_places_tiles_row_by_row():
    tiles = [np.full((20, 30, 3), 10 * index + 10, np.uint8) for index in range(5)]
    sheet = contact_sheet(tiles, columns=3)
    assert sheet.shape == (40, 90, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        assert (sheet[row * 20 : row * 20 + 20, column * 30 : column * 30 + 30] == 10 * index + 10).all()
    assert (sheet[20:, 60:] == 0).all()


def test_labels_change_their_tile_alone():
    tiles = [np.full((60, 90, 3), 128, np.uint8) for _ in range(2)]
    sheet = contact_sheet(tiles, columns=2, labels=["12", ""])
    assert sheet[:, :90].max() > 200
    assert (tiles[0] == 128).all()
    with pytest.raises(ValueError, match="1 labels"):
        contact_sheet(tiles, columns=2, labels=["12"])
    with pytest.raises(ValueError, match="0 tiles"):
        contact_sheet([], columns=2)


def test_a_label_longer_than_the_picture_is_cut():
    image = np.full((30, 40, 3), 128, np.uint8)
    draw_label(image, "a long label that does not fit")
    assert image[:, -1].min() == 0, "it fills the width"
    assert (image[-1] == 128).all()
