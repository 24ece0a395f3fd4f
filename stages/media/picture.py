"""Pictures: read any common kind as RGB, fit it to the output's size, write PNG."""

import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..atomic import atomic_path
from ..errors import PictureError
from .icc import to_srgb
from .placement import Placement, centre_crop
from .png_text import without_texts

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")
"""What is read, and HEIF. Pillow knows more, but some of those start other programs (EPS: Ghostscript)."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""ISO 23008-12, annex B and 10.2: what the bytes 8 to 12 of a HEIF file may be."""

LEVEL_16_BIT = 65535 / 255
"""Steps of a 16-bit channel in one step of an 8-bit channel."""

ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")

LABEL_SCALE = 0.5
LABEL_MARGIN = 4
"""Size of OpenCV's plain font, and pixels around a label."""


def read_picture(path: str | os.PathLike[str], notes: list[str] | None = None) -> np.ndarray:
    """Read a picture as uint8 [H, W, 3] sRGB, upright.

    The EXIF orientation is applied; transparent parts become white; grey, palette, CMYK and 16-bit pictures
    are converted, by their colour profile where they carry one; of an animation the first frame is taken.
    Texts are passed over.
    Lines on what was passed over are added to `notes`. Raises PictureError for anything else, a truncated
    file and a decompression bomb (Pillow's limit on the number of pixels) included.
    """
    path = Path(path)
    with _opened(path) as image:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image), f"picture {path}", notes)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of a picture as it is stored, from its header. PictureError as `read_picture`."""
    with _opened(Path(path)) as image:
        return image.size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, not yet decoded; what goes wrong with it in the block becomes PictureError."""
    if not path.exists():
        raise PictureError(f"picture {path} does not exist: check the path")
    if not path.is_file():
        raise PictureError(f"picture {path} is not a file: give one picture")
    if path.stat().st_size == 0:
        raise PictureError(f"picture {path} is empty (0 bytes): copy or download it again")
    formats = _formats_for(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(without_texts(path), formats=formats) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise PictureError(f"picture {path} has more than {limit} million pixels: scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(
            f"{path} is not a picture of a known kind: give a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise PictureError(f"picture {path} is damaged ({reason}): copy or download it again") from error


def _formats_for(path: Path) -> tuple[str, ...]:
    """`FORMATS`, and HEIF where `path` is one: Pillow learns it then. PictureError where its reader lacks."""
    with path.open("rb") as file:
        if file.read(12)[8:] not in HEIF_BRANDS:
            return FORMATS
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise PictureError(f"picture {path} is HEIC: pip install pillow-heif, or save it as PNG") from error
    register_heif_opener()
    return (*FORMATS, "HEIF")


def to_rgb(image: Image.Image, name: str, notes: list[str] | None = None) -> np.ndarray:
    """A PIL image of any common mode as uint8 [H, W, 3] sRGB, transparent parts white.

    Lines on colour profiles that were passed over are added to `notes`. Raises PictureError, which begins
    with `name`, for levels that are not 8 or 16 bits.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise PictureError(f"{name} has 32-bit levels: save it with 8 or 16 bits a channel")
        profile = image.info.get("icc_profile")
        image = Image.fromarray(np.round(grey / LEVEL_16_BIT).astype(np.uint8))
        image.info["icc_profile"] = profile
    if image.mode == "F":
        raise PictureError(f"{name} has floating-point levels: save it with 8 or 16 bits a channel")
    image = to_srgb(image, name, [] if notes is None else notes)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def fit_cover(image: np.ndarray, width: int, height: int, *, published: bool = False) -> np.ndarray:
    """Scale uint8 [H, W, 3] so that it covers `height` x `width`, then cut the centre out of it.

    See `place`. An image with the target's size is returned as it is, pixel for pixel.
    """
    placement = centre_crop((image.shape[1], image.shape[0]), (width, height))
    return place(image, placement, published=published)


def place(image: np.ndarray, placement: Placement, *, published: bool = False) -> np.ndarray:
    """Scale uint8 [H, W, 3] and lay it into a frame as `placement` says; what it does not fill is black.

    A larger image is shrunk with antialiasing (Lanczos), a smaller one enlarged bilinearly; no level is
    darker or brighter than the image's own. `published` is bilinear without antialiasing, as the published
    pipelines bring the reference image to size: fine patterns become moire.
    """
    size = (placement.scaled[1], placement.scaled[0])
    if size == image.shape[:2]:
        scaled = image
    elif published or size[0] > image.shape[0]:
        scaled = _bilinear(image, size)
    else:
        whole = Image.fromarray(np.ascontiguousarray(image))
        shrunk = np.asarray(whole.resize((size[1], size[0]), Image.Resampling.LANCZOS))
        scaled = np.clip(shrunk, image.min(), image.max())  # the filter swings over at hard edges
    x, y = placement.corner
    left, top, right, bottom = placement.inside
    filled = scaled[top - y : bottom - y, left - x : right - x]
    if not placement.padded:
        return np.ascontiguousarray(filled)
    frame = np.zeros((placement.size[1], placement.size[0], 3), np.uint8)
    frame[top:bottom, left:right] = filled
    return frame


def _bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] at `size` (height, width), without antialiasing, rounded to 8 bits."""
    import torch  # here alone: reading and writing pictures and videos does without

    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    planes = torch.nn.functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)
    return planes[0].round().to(torch.uint8).permute(1, 2, 0).numpy()


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB as PNG, whole or not at all. Raises OutputError where it cannot."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def draw_label(image: np.ndarray, text: str) -> None:
    """Write `text` in white on a dark field into the top left corner of uint8 [H, W, 3], in place."""
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, LABEL_SCALE, 1)
    corner = (width + 2 * LABEL_MARGIN, height + base + 2 * LABEL_MARGIN)
    cv2.rectangle(image, (0, 0), corner, (0, 0, 0), cv2.FILLED)
    place = (LABEL_MARGIN, height + LABEL_MARGIN)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, LABEL_SCALE, (255, 255, 255), 1, cv2.LINE_AA)


def contact_sheet(tiles: Sequence[np.ndarray], columns: int, labels: Sequence[str] = ()) -> np.ndarray:
    """Lay uint8 [H, W, 3] tiles out in rows of `columns`, left to right; empty places stay black.

    Tiles of another size than the first are scaled to cover it. `labels`, where given, has one text for each
    tile. Raises ValueError for no tiles, no columns, or another number of labels.
    """
    if not tiles or columns < 1 or (labels and len(labels) != len(tiles)):
        raise ValueError(f"{len(tiles)} tiles, {columns} columns and {len(labels)} labels make no sheet")
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        place = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        place[:] = fit_cover(tile, width, height)
        if labels:
            label = np.ascontiguousarray(place)
            draw_label(label, labels[index])
            place[:] = label
    return sheet
