"""Colour profiles: pictures that carry one are brought to sRGB, which all later stages take for granted."""

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

COLOUR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""What a profile has to describe to be that of a picture of a mode, by the names of ICC.1:2022, table 19."""
SAME_LEVELS = 1
"""Levels of 255 by which a profile may differ from sRGB and still be it: pictures then stay as they are."""
EXACT_DARKS = ImageCms.Flags.NOOPTIMIZE
"""For grey pictures: Little CMS's table is up to 7 levels off in the darks of a linear one. Slower."""


def to_srgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """The picture in sRGB: of mode RGB or RGBA where it had a profile of another space, else as it was.

    Modes L, LA, RGB, RGBA, P, PA and CMYK are converted, relative colorimetric with black point compensation.
    A profile that is damaged, or is not one of a picture of this mode, is passed over; a line that begins
    with `name` is added to `notes`.
    """
    data = image.info.get("icc_profile")
    if not data:
        return image
    if "transparency" in image.info or image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    plain = image.convert(image.mode[:-1]) if alpha is not None else image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        about: Any = profile.profile
        space = about.xcolor_space.strip()
        if plain.mode == "L" and space == "RGB":
            plain = plain.convert("RGB")
        if COLOUR_SPACES.get(plain.mode) != space:
            notes.append(f"{name} has a colour profile for {space}, but is {image.mode}: passed over")
            return image
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | (EXACT_DARKS if plain.mode == "L" else 0)
        transform = ImageCms.buildTransform(profile, _srgb(), plain.mode, "RGB", intent, flags)
        if plain.mode != "CMYK" and _changes_nothing(transform, plain.mode):
            return image
        converted = ImageCms.applyTransform(plain, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        notes.append(f"{name} has a damaged colour profile ({reason}): taken as sRGB")
        return image
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info.pop("icc_profile", None)
    return converted


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform from `mode`, RGB or L, leaves a chart of grey and, for RGB, pure colours alone."""
    ramp = np.arange(0, 256, 5, dtype=np.uint8)
    chart = ramp[None]
    if mode == "RGB":
        rows = [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1) if a + b + c]
        chart = np.array(rows, np.uint8)[:, None] * ramp[None, :, None]
    same = Image.fromarray(chart)
    found = ImageCms.applyTransform(same, transform)
    assert found is not None
    expected = np.asarray(same.convert("RGB")).astype(int)
    return int(np.abs(np.asarray(found).astype(int) - expected).max()) <= SAME_LEVELS
