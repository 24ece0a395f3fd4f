"""Colour profiles: wide, grey and CMYK pictures are read in sRGB; what is broken is passed over and said."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from posedance.stages.media.picture import read_picture

SHOWN = np.array([[200, 60, 40], [30, 180, 60], [20, 40, 220], [255, 255, 255], [0, 0, 0], [120, 130, 125]])
"""Colours as they should be seen, sRGB."""

SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
DISPLAY_P3 = np.array([[0.4866, 0.2657, 0.1982], [0.2290, 0.6917, 0.0793], [0.0, 0.0451, 1.0439]])
"""RGB to XYZ (D65): IEC 61966-2-1 and SMPTE EG 432-1."""
TO_D50 = np.array([[1.0478, 0.0229, -0.0501], [0.0295, 0.9905, -0.0171], [-0.0092, 0.0151, 0.7519]])
"""Bradford, from D65 to the white of ICC's connection space."""
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def linear(levels: np.ndarray) -> np.ndarray:
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def coded(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    levels = np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)
    return np.round(255 * levels).astype(np.uint8)


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def profile(space: str, tags: dict[str, bytes], connection: str = "XYZ ", kind: str = "mntr") -> bytes:
    """An ICC profile (ICC.1:2022, 7)."""
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name.encode() + struct.pack(">II", start + len(body), len(data))
        body += data
    names = (kind.encode(), space.encode(), connection.encode())
    header = struct.pack(">I4sI4s4s4s", 0, b"test", 0x04300000, *names)
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    data = header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(data)) + data[4:]


def xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + fixed(*values)


def curve(parameters) -> bytes:
    """A parametric curve: a gamma alone, or the five numbers of a curve such as sRGB's."""
    numbers = tuple(np.atleast_1d(parameters))
    return b"para" + bytes(4) + struct.pack(">HH", {1: 0, 5: 3}[len(numbers)], 0) + fixed(*numbers)


def rgb_profile(matrix: np.ndarray, parameters=SRGB_CURVE) -> bytes:
    columns = (TO_D50 @ matrix).T
    tags = {"wtpt": xyz((0.9642, 1, 0.8249))}
    tags |= {f"{letter}XYZ": xyz(column) for letter, column in zip("rgb", columns, strict=True)}
    return profile("RGB ", tags | {f"{letter}TRC": curve(parameters) for letter in "rgb"})


def grey_profile(gamma: float) -> bytes:
    return profile("GRAY", {"wtpt": xyz((0.9642, 1, 0.8249)), "kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Inks of a printer by a table of their 16 mixtures (lut8Type, ICC.1:2022, 10.11)."""
    table = b""
    for corner in np.ndindex(2, 2, 2, 2):
        cyan, magenta, yellow, black = corner
        lightness = 100 * (1 - black) * (1 - 0.3 * (cyan + magenta + yellow))
        a = 40 * (1 - black) * (magenta - cyan)
        b = 20 * (1 - black) * (3 * yellow - cyan - magenta)
        table += bytes([round(lightness * 2.55), round(128 + a), round(128 + b)])
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut += ramp * 4 + table + ramp * 3
    return profile("CMYK", {"wtpt": xyz((0.9642, 1, 0.8249)), "A2B0": lut}, connection="Lab ", kind="prtr")


def seen_lab(lightness: float, a: float, b: float) -> np.ndarray:
    """sRGB of a CIELAB colour under D50."""
    y = (lightness + 16) / 116
    shares = np.array([y + a / 500, y, y - b / 200]) ** 3
    return coded(np.linalg.inv(TO_D50 @ SRGB) @ (shares * [0.9642, 1, 0.8249])).astype(int)


def wide() -> np.ndarray:
    """`SHOWN` in Display P3's numbers, uint8 [1, 6, 3]."""
    return coded(linear(SHOWN) @ (np.linalg.inv(DISPLAY_P3) @ SRGB).T)[None]


def blocks(levels: np.ndarray) -> np.ndarray:
    return np.kron(levels, np.ones((16, 16, 1), np.uint8))


def centres(picture: np.ndarray) -> np.ndarray:
    return picture[8::16, 8::16].astype(int)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif", ".heic"])
def test_a_wide_gamut_picture_is_seen_as_meant(tmp_path, suffix):
    if suffix == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
    lossless = {".webp": {"lossless": True}, ".avif": {"quality": 100}, ".heic": {"quality": -1}}
    options = lossless.get(suffix, {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {})
    path = tmp_path / f"p{suffix}"
    Image.fromarray(blocks(wide())).save(path, icc_profile=rgb_profile(DISPLAY_P3), **options)
    assert np.abs(centres(read_picture(path))[0] - SHOWN).max() <= 4
    assert np.abs(wide()[0].astype(int) - SHOWN).max() >= 10


def test_orange_of_display_p3():
    assert wide()[0, 0].tolist() == pytest.approx([185, 71, 50], abs=1)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_alpha_and_palettes_have_profiles_too(tmp_path, mode):
    image = Image.fromarray(blocks(wide()))
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    if mode == "RGBA":
        clear = np.full((16, 96), 255, np.uint8)
        clear[:, :16] = 0
        image.putalpha(Image.fromarray(clear))
    image.save(tmp_path / "p.png", icc_profile=rgb_profile(DISPLAY_P3))
    expected = SHOWN.copy()
    if mode == "RGBA":
        expected[0] = 255
    assert np.abs(centres(read_picture(tmp_path / "p.png"))[0] - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_grey_picture_follows_its_curve(tmp_path, mode):
    ramp = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (4, 1))
    image = Image.fromarray(ramp.astype(np.uint16) * 257 if mode == "I;16" else ramp)
    image = image.convert(mode) if mode == "LA" else image
    image.save(tmp_path / "p.png", icc_profile=grey_profile(1.0))
    got = read_picture(tmp_path / "p.png")
    expected = coded(ramp / 255)
    assert np.abs(got.astype(int) - expected[..., None]).max() <= 2
    assert expected[0, 10] > ramp[0, 10] + 50


def test_cmyk_goes_by_its_profile(tmp_path):
    inks = np.zeros((1, 4, 4), np.uint8)
    inks[0, 1, 1] = inks[0, 2, 2] = inks[0, 3, 3] = 255  # paper, magenta, yellow, black
    image = Image.fromarray(blocks(inks), "CMYK")
    image.save(tmp_path / "plain.tif")
    image.save(tmp_path / "p.tif", icc_profile=cmyk_profile())
    paper, magenta, yellow, black = centres(read_picture(tmp_path / "p.tif"))[0]
    assert paper.min() >= 253
    assert black.max() <= 2
    assert np.abs(magenta - seen_lab(70, 40, -20)).max() <= 3
    assert yellow[2] < yellow[0]
    assert np.abs(magenta - centres(read_picture(tmp_path / "plain.tif"))[0, 1]).max() > 30


def test_srgb_under_any_name_changes_no_level(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name, data in (
        ("own", rgb_profile(SRGB)),
        ("lcms", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    ):
        Image.fromarray(picture).save(tmp_path / f"{name}.png", icc_profile=data)
        np.testing.assert_array_equal(read_picture(tmp_path / f"{name}.png"), picture)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no profile at all", "damaged colour profile"),
        (rgb_profile(DISPLAY_P3)[:200], "damaged colour profile"),
        (profile("RGB ", {"wtpt": xyz((0.9642, 1, 0.8249))}), "damaged colour profile"),
        (grey_profile(1.8), "colour profile for GRAY, but is RGB"),
        (cmyk_profile(), "colour profile for CMYK, but is RGB"),
    ],
    ids=["text", "cut off", "empty", "grey", "CMYK"],
)
def test_a_profile_that_is_none_is_passed_over_and_said(tmp_path, data, reason):
    picture = blocks(wide())
    Image.fromarray(picture).save(tmp_path / "p.png", icc_profile=data)
    notes: list[str] = []
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png", notes), picture)
    (note,) = notes
    assert reason in note and "p.png" in note and "\n" not in note
    assert read_picture(tmp_path / "p.png").shape == picture.shape


def test_a_picture_without_a_profile_has_no_note(tmp_path):
    notes: list[str] = []
    Image.fromarray(blocks(wide())).save(tmp_path / "p.png")
    read_picture(tmp_path / "p.png", notes)
    assert notes == []
