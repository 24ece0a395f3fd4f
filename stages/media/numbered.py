"""Numbered pictures in a folder: which they are, and in which order they are shown."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import VideoError

PICTURE_ENDS = frozenset(
    {".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Names of pictures in a folder end in these."""
GAPS_NAMED = 8
"""Gaps in the numbers of pictures that are named one by one."""
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


def missing_numbers(pictures: Sequence[Path]) -> str:
    """Which numbers between the first and the last picture's are missing, and how many: empty for none.

    Of several numbers in a name the last that differs in all counts. Pictures whose numbers all lie equally
    far apart lack none; those without such a number, or with more gaps than numbers (times), are not counted.
    """
    parts = [[int(number) for number in re.findall(r"\d+", file.stem)] for file in pictures]
    columns = zip(*parts, strict=True) if len({len(each) for each in parts}) == 1 else []
    counting = [sorted(column) for column in columns if len(set(column)) == len(pictures)]
    if not counting or len(pictures) < 2:
        return ""
    numbers = counting[-1]
    step = math.gcd(*(after - before for before, after in pairwise(numbers)))
    gaps = [(a + step, b - step) for a, b in pairwise(numbers) if b - a > step]
    count = (numbers[-1] - numbers[0]) // step + 1 - len(numbers)
    if not count or count > len(numbers):
        return ""
    named = [f"{first} to {last}" if last > first else f"{first}" for first, last in gaps[:GAPS_NAMED]]
    more = f" and {len(gaps) - GAPS_NAMED} more gaps" if len(gaps) > GAPS_NAMED else ""
    return f"{count} missing between {numbers[0]} and {numbers[-1]}: {', '.join(named)}{more}"


def by_numbers(name: str) -> tuple[list[tuple[str, int]], str]:
    """Sorts names by the numbers in them: 2 before 10."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)], name
