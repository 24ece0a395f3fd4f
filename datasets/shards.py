"""Clips in tar files, laid out as webdataset reads them: files of a clip share the name before the first dot.

    000017.json         {"frames": 21, "columns": 1}
    000017.frames.png   the clip's frames below one another, RGB; .jpg where they come from a video. More than
                        JPEG's height holds go on in the next column; places that are left over are black
    000017.control.png  its control frames, in the same way
    000017.parts.png    its parts
    000017.palette.npy  its palette

Control frames are kept drawn, so poses are neither found nor drawn again. Files are read at their places in
the tar, so that any clip can be had at any time: an exact resume needs that.
"""

import io
import json
import math
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from ..stages.atomic import atomic_path
from ..stages.errors import ConfigError
from .clips import BadRecord, Clip
from .puppets.character import PARTS

JPEG_QUALITY = 95
"""Quality of frames that come from a video, which has lost more already."""

LARGEST_SIDE = 65500
"""Pixels of a JPEG's side, as libjpeg and so OpenCV write it."""

Places = dict[str, tuple[int, int]]
"""Offset and size of a clip's files in its tar, by what follows the first dot of their names."""


def write_shards(
    clips: Iterable[Clip | BadRecord], folder: Path, per_shard: int, lossless: bool
) -> tuple[int, list[BadRecord]]:
    """Write clips as `shard-00000.tar` and so on; returns how many, and those that could not be had.

    Each shard appears whole or not at all. Raises OutputError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bad: list[BadRecord] = []
    written = 0
    waiting: list[Clip] = []
    for clip in clips:
        if isinstance(clip, BadRecord):
            bad.append(clip)
            continue
        waiting.append(clip)
        if len(waiting) == per_shard:
            _write_shard(folder, written, waiting, lossless)
            written += len(waiting)
            waiting = []
    if waiting:
        _write_shard(folder, written, waiting, lossless)
    return written + len(waiting), bad


def _write_shard(folder: Path, first: int, clips: list[Clip], lossless: bool) -> None:
    number = len(list(folder.glob("shard-*.tar")))
    with atomic_path(folder / f"shard-{number:05d}.tar") as temporary, tarfile.open(temporary, "w") as tar:
        for i, clip in enumerate(clips):
            for name, data in encode_clip(clip, lossless).items():
                member = tarfile.TarInfo(f"{first + i:06d}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def encode_clip(clip: Clip, lossless: bool) -> dict[str, bytes]:
    """A clip's files by the end of their names."""
    palette = io.BytesIO()
    np.save(palette, clip.palette)
    end, options = (".png", []) if lossless else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    count, height = clip.frames.shape[:2]
    columns = math.ceil(count / (LARGEST_SIDE // height))
    return {
        "json": json.dumps({"frames": count, "columns": columns}).encode(),
        f"frames{end}": _picture(clip.frames[..., ::-1], columns, end, options),
        "control.png": _picture(clip.control[..., ::-1], columns, ".png", []),
        "parts.png": _picture(clip.parts, columns, ".png", []),
        "palette.npy": palette.getvalue(),
    }


def _picture(stack: np.ndarray, columns: int, end: str, options: list[int]) -> bytes:
    """uint8 [F, H, W, ...], BGR where it has colours, below one another in columns."""
    count, height, width, *colours = stack.shape
    rows = math.ceil(count / columns)
    places = np.zeros((columns * rows, height, width, *colours), np.uint8)
    places[:count] = stack
    sheet = places.reshape(columns, rows * height, width, *colours)
    _, data = cv2.imencode(end, np.concatenate(list(sheet), axis=1), options)
    return data.tobytes()


def decode_clip(files: Mapping[str, bytes], number: int) -> Clip:
    """The clip of these files.

    ValueError, TypeError, KeyError or cv2.error where they are not what `encode_clip` makes.
    """
    facts = json.loads(files["json"])
    for name in ("frames", "columns"):
        if not isinstance(facts[name], int) or facts[name] < 1:
            raise ValueError(f"{name} is {facts[name]!r}: expected how many there are")
    count, columns = facts["frames"], facts["columns"]
    pictures = files["frames.png"] if "frames.png" in files else files["frames.jpg"]
    frames = _stack(pictures, cv2.IMREAD_COLOR, count, columns)[..., ::-1]
    control = _stack(files["control.png"], cv2.IMREAD_COLOR, count, columns)[..., ::-1]
    parts = _stack(files["parts.png"], cv2.IMREAD_GRAYSCALE, count, columns)
    palette = np.load(io.BytesIO(files["palette.npy"]), allow_pickle=False)
    if not frames.shape == control.shape == (*parts.shape, 3):
        raise ValueError(f"frames are {frames.shape}, control {control.shape} and parts {parts.shape}")
    if palette.shape != (len(PARTS), 4) or parts.max() >= len(PARTS):
        raise ValueError(f"its palette is {palette.shape} and its last part {parts.max()} of {len(PARTS)}")
    return Clip(number, np.ascontiguousarray(frames), np.ascontiguousarray(control), parts, palette)


def _stack(data: bytes, flags: int, count: int, columns: int) -> np.ndarray:
    """The frames that `_picture` laid out, uint8 [F, H, W, ...]."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        raise ValueError("a picture is damaged")
    rows = math.ceil(count / columns)
    if len(picture) % rows or picture.shape[1] % columns:
        height, width = picture.shape[:2]
        raise ValueError(f"{width}x{height} pixels are no {count} frames in {columns} columns")
    height = len(picture) // rows
    places = [part.reshape(rows, height, *part.shape[1:]) for part in np.split(picture, columns, axis=1)]
    return np.concatenate(places)[:count]


class ShardClips:
    """The clips of all `*.tar` in a folder, in the order of their names.

    `bad` lists tars that break off, with how many clips were found before; their last clip may be among them
    and is then bad when it is read. Raises ConfigError for a folder without shards.
    """

    def __init__(self, folder: Path, width: int, height: int, frames: int) -> None:
        self.shape = (frames, height, width, 3)
        self.bad: list[BadRecord] = []
        self.places: list[tuple[Path, str, Places]] = []
        for shard in shards_in(folder):
            found, fault = index_shard(shard)
            self.places += [(shard, key, places) for key, places in found.items()]
            if fault is not None:
                self.bad.append(BadRecord(str(shard), f"{fault} after {len(found)} clips"))

    def __len__(self) -> int:
        return len(self.places)

    def files(self) -> list[Path]:
        """All files that decide the clips."""
        return sorted({shard for shard, _, _ in self.places})

    def __getitem__(self, index: int) -> Clip | BadRecord:
        shard, key, places = self.places[index]
        try:
            with shard.open("rb") as file:
                clip = decode_clip({name: read_place(file, *place) for name, place in places.items()}, index)
        except KeyError as error:
            return BadRecord(f"{shard}:{key}", f"{error.args[0]} is missing")
        except (OSError, ValueError, TypeError, EOFError, cv2.error) as error:
            return BadRecord(f"{shard}:{key}", str(error))
        if clip.frames.shape != self.shape:
            return BadRecord(
                f"{shard}:{key}", f"its frames are {clip.frames.shape}: the config asks for {self.shape}"
            )
        return clip


def shards_in(folder: Path) -> list[Path]:
    """The shards of a folder by name. ConfigError where there is none."""
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise ConfigError(f"there are no shards (*.tar) in {folder}: check the path, or write some")
    return shards


def index_shard(shard: Path) -> tuple[dict[str, Places], str | None]:
    """Where each clip's files are, from the tar's headers; and what is wrong with it, if anything."""
    found: dict[str, Places] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                key, _, name = member.name.rpartition("/")[2].partition(".")
                if member.isfile():
                    found.setdefault(key, {})[name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        return found, f"it breaks off or is no tar ({error})"
    return found, None


def read_place(file: io.BufferedReader, offset: int, size: int) -> bytes:
    """The bytes of a file in a tar. ValueError where the tar ends before them."""
    file.seek(offset)
    data = file.read(size)
    if len(data) < size:
        raise ValueError("the shard breaks off in this clip")
    return data
