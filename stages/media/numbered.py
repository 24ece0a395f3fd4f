"""Numbered pictures in a folder: which they are, and in which order they are shown."""

import re
from pathlib import Path

from ..errors import VideoError

PICTURE_ENDS = frozenset(
    {".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Names of pictures in a folder end in these."""
PATTERN = re.compile(r"%0?\d*d")
"""The number in a pattern as printf and FFmpeg write it: frame_%04d.png."""


def numbered_pictures(path: Path) -> list[Path] | None:
    """The pictures of a folder, or those that a pattern such as frame_%04d.png names, by their numbers.

    None where `path` is neither. Raises VideoError for one without pictures.
    """
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in PICTURE_ENDS]
    elif PATTERN.search(path.name) and not path.exists():
        before, after = PATTERN.split(path.name, maxsplit=1)
        name = re.compile(rf"{re.escape(before)}\d+{re.escape(after)}")
        folder = path.parent
        found = [file for file in folder.iterdir() if name.fullmatch(file.name)] if folder.is_dir() else []
    else:
        return None
    found = [file for file in found if not file.name.startswith(".") and file.is_file()]
    if not found:
        raise VideoError(f"video {path} is not a file, and there are no pictures: check the path")
    return sorted(found, key=lambda file: by_numbers(file.name))


def by_numbers(name: str) -> tuple[list[tuple[str, int]], str]:
    """Sorts names by the numbers in them: 2 before 10."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)], name
