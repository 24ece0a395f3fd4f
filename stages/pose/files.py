"""Pose sequences in files: `.npz`, exact, and the JSON of other tools, which `layouts` reads."""

import json
import math
import os
import re
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from ..atomic import atomic_path
from ..errors import PoseError
from ..types import PoseSequence
from . import skeleton
from .follow.person import Person, follow
from .layouts import DEFAULT_FPS, MAX_FRAMES, PARTS, read_layout

KEYS = ("keypoints", "scores", "size", "fps")

MAX_ARRAY = MAX_FRAMES * 133 * 2 * 8
"""Bytes of an array of an .npz, before it is read: MAX_FRAMES frames in float64."""

MAX_JSON = 256 * 2**20
"""Bytes of JSON that are read: about 20 minutes of one person at 30 frames a second."""


def save_poses(path: str | os.PathLike[str], poses: PoseSequence) -> None:
    """Write a sequence as `.npz` or `.json`, by the name's end; the file appears whole or not at all.

    Both come back equal from `load_poses`, but for keypoints that score 0 in JSON: these become 0.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                keypoints=poses.keypoints,
                scores=poses.scores,
                size=np.array(poses.size, np.int64),
                fps=np.array([poses.fps.numerator, poses.fps.denominator], np.int64),
            )
    elif path.suffix == ".json":
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(openpose_frames(poses)), encoding="utf-8")
    else:
        raise PoseError(f"cannot write poses to {path}: the name must end in .npz or .json")


def load_poses(
    path: str | os.PathLike[str], size: tuple[int, int] | None = None, person: Person | None = None
) -> PoseSequence:
    """Read what `save_poses` wrote, or JSON of a layout in `layouts`: of several people whom `follow` picks.

    `size` (width, height) is that of the video in pixels, for layouts that do not tell; a file that does must
    agree. `person` names one of the people, and so no file that holds one alone.
    Raises PoseError, which names the file, for anything else: pickles, NaN, wrong shapes and keys included,
    and arrays too large to read.
    """
    path = Path(path)
    if not path.exists():
        raise PoseError(f"pose file {path} does not exist: check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise PoseError(f"pose file {path} is empty (0 bytes): write or copy it again")
    try:
        if path.is_dir():
            poses = poses_of_layout(_read_folder(path), size, person)
        elif path.suffix == ".npz":
            if person is not None:
                raise PoseError("it holds one person: leave out --person")
            poses = _read_npz(path)
        elif path.suffix == ".json":
            _refuse_large(path.stat().st_size)
            poses = poses_of_layout(_read_json(path), size, person)
        else:
            raise PoseError("the name must end in .npz or .json")
        if len(poses) == 0:
            raise PoseError("there are no frames in it")
        if size is not None and poses.size != size:
            own, given = ("x".join(map(str, each)) for each in (poses.size, size))
            raise PoseError(f"it tells its own size, {own}, and not {given}: leave out --pose-size")
    except PoseError as error:
        raise PoseError(f"pose file {path} cannot be used: {error}") from error
    except OSError as error:
        raise PoseError(f"pose file {path} cannot be read: {error.strerror or error}") from error
    return poses


def _read_npz(path: Path) -> PoseSequence:
    try:
        with path.open("rb") as file:
            _check_headers(file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                keypoints, scores, size, fps = (arrays[key] for key in KEYS)
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise PoseError(f"it is damaged or holds Python objects, which are not read ({error})") from error
    if not all(np.issubdtype(array.dtype, np.number) for array in (keypoints, scores)):
        raise PoseError(f"keypoints and scores are {keypoints.dtype} and {scores.dtype}: expected numbers")
    for name, pair in (("size", size), ("fps", fps)):
        if pair.shape != (2,) or not np.issubdtype(pair.dtype, np.integer) or pair.min() < 1:
            raise PoseError(f"{name} is {pair.tolist()}: expected two positive whole numbers")
    return PoseSequence(keypoints, scores, (int(size[0]), int(size[1])), Fraction(int(fps[0]), int(fps[1])))


def _check_headers(file: IO[bytes]) -> None:
    """Refuse an .npz for what its headers say of its arrays, before any is read: small files hold GBs."""
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        absent = [key for key in KEYS if f"{key}.npy" not in names]
        if absent:
            raise PoseError(f"{', '.join(absent)} missing: expected {', '.join(KEYS)}")
        for key in KEYS:
            with archive.open(f"{key}.npy") as member:
                readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
                version = npy.read_magic(member)
                if version not in readers:
                    raise PoseError(f"{key} is an array of the unknown version {version}: write it again")
                shape, _, kind = readers[version](member)
            if math.prod(shape) * kind.itemsize > (MAX_ARRAY if key in KEYS[:2] else 1024):
                raise PoseError(
                    f"{key} have shape {list(shape)}: at most {MAX_FRAMES} frames are read, cut it in parts"
                )


def _read_folder(folder: Path) -> Any:
    """The JSON of each file, in the order of their numbers; of a single file, that."""
    files = sorted(folder.glob("*.json"), key=_by_number)
    if len(files) > MAX_FRAMES:
        raise PoseError(f"there are {len(files)} files in it: at most {MAX_FRAMES} frames are read")
    _refuse_large(sum(file.stat().st_size for file in files))
    found = [_read_json(file) for file in files]
    return found[0] if len(found) == 1 else found


def _refuse_large(size: int) -> None:
    if size > MAX_JSON:
        raise PoseError(
            f"it has {size / 2**20:.0f} MiB of JSON, at most {MAX_JSON / 2**20:.0f} are read: cut it in parts"
        )


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts names by their numbers, whether or not these are filled up with zeros."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())  # UTF-8 or UTF-16, with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise PoseError(f"{path.name} is not JSON ({error})") from error


def openpose_frames(poses: PoseSequence) -> list[dict[str, Any]]:
    """The sequence as a list of frames in OpenPose's JSON form: `people`, `canvas_width`, `canvas_height`."""
    points, scores = skeleton.to_openpose(poses.keypoints, poses.scores)
    triples = np.concatenate([points, scores[..., None]], axis=-1)
    triples[scores == 0] = 0
    seen = poses.scores.any(1)
    return [
        {
            "people": [{name: frame[part].ravel().tolist() for name, part in PARTS.items()}] if shown else [],
            "canvas_width": poses.size[0],
            "canvas_height": poses.size[1],
            "fps": str(poses.fps),
        }
        for frame, shown in zip(triples, seen, strict=True)
    ]


def poses_of_layout(
    data: Any, size: tuple[int, int] | None = None, person: Person | None = None
) -> PoseSequence:
    """A sequence of one person from parsed JSON of a layout in `layouts`; the rest as in `load_poses`."""
    read = read_layout(data, size)
    keypoints, scores = follow(read.people, person, read.size[0])
    return PoseSequence(keypoints, scores, read.size, read.fps or DEFAULT_FPS)
