"""Pose sequences in files: `.npz`, exact, and JSON as OpenPose and DWPose tools write it.

JSON is a list of frames, each with `people` (flat x, y, score lists under OpenPose's names), `canvas_width`
and `canvas_height`; a single such frame, an object with `frames`, and a folder with one file a frame are read
too (by the numbers in their names: 2 before 10). OpenPose's own files lack the canvas: add it.
"""

import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from ..errors import PoseError
from ..types import PoseSequence
from . import skeleton
from .base import Detections
from .track import follow

DEFAULT_FPS = Fraction(30)
"""Frame rate of JSON that gives none: OpenPose and DWPose have no field for it."""

LARGEST_DENOMINATOR = 1001
"""Of a frame rate that JSON gives as a float, as 29.97: a video cannot have the exact value of that."""

KEYS = ("keypoints", "scores", "size", "fps")

BODY_25_TO_18 = [i for i in range(19) if i != 8]
"""OpenPose's 18 body points among its 25: all before the feet but the middle of the hips."""

PARTS = {
    "pose_keypoints_2d": skeleton.OPENPOSE_BODY,
    "foot_keypoints_2d": skeleton.OPENPOSE_FEET,
    "face_keypoints_2d": skeleton.OPENPOSE_FACE,
    "hand_left_keypoints_2d": skeleton.OPENPOSE_LEFT_HAND,
    "hand_right_keypoints_2d": skeleton.OPENPOSE_RIGHT_HAND,
}


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
            temporary.write_text(json.dumps(_frames(poses)), encoding="utf-8")
    else:
        raise PoseError(f"cannot write poses to {path}: the name must end in .npz or .json")


def load_poses(path: str | os.PathLike[str]) -> PoseSequence:
    """Read what `save_poses` wrote, or OpenPose/DWPose JSON (of several people, the one that `follow` picks).

    Raises PoseError, which names the file, for anything else: pickles, NaN, wrong shapes and keys included.
    """
    path = Path(path)
    if not path.exists():
        raise PoseError(f"pose file {path} does not exist: check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise PoseError(f"pose file {path} is empty (0 bytes): write or copy it again")
    try:
        if path.is_dir():
            poses = _from_frames([_read_json(file) for file in sorted(path.glob("*.json"), key=_by_number)])
        elif path.suffix == ".npz":
            poses = _read_npz(path)
        elif path.suffix == ".json":
            poses = _from_frames(_read_json(path))
        else:
            raise PoseError("the name must end in .npz or .json")
        if len(poses) == 0:
            raise PoseError("there are no frames in it")
    except PoseError as error:
        raise PoseError(f"pose file {path} cannot be used: {error}") from error
    except OSError as error:
        raise PoseError(f"pose file {path} cannot be read: {error.strerror or error}") from error
    return poses


def _read_npz(path: Path) -> PoseSequence:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, Mapping):
                raise PoseError("it is a single array: expected an .npz archive")
            absent = [key for key in KEYS if key not in arrays]
            if absent:
                raise PoseError(f"{', '.join(absent)} missing: expected {', '.join(KEYS)}")
            keypoints, scores, size, fps = (arrays[key] for key in KEYS)
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise PoseError(f"it is damaged or holds Python objects, which are not read ({error})") from error
    if not all(np.issubdtype(array.dtype, np.number) for array in (keypoints, scores)):
        raise PoseError(f"keypoints and scores are {keypoints.dtype} and {scores.dtype}: expected numbers")
    for name, pair in (("size", size), ("fps", fps)):
        if pair.shape != (2,) or not np.issubdtype(pair.dtype, np.integer) or pair.min() < 1:
            raise PoseError(f"{name} is {pair.tolist()}: expected two positive whole numbers")
    return PoseSequence(keypoints, scores, (int(size[0]), int(size[1])), Fraction(int(fps[0]), int(fps[1])))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts names by their numbers, whether or not these are filled up with zeros."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PoseError(f"{path.name} is not JSON ({error})") from error


def _frames(poses: PoseSequence) -> list[dict[str, Any]]:
    """The sequence as a list of frames in OpenPose's JSON form."""
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


def _from_frames(data: Any) -> PoseSequence:
    """A sequence from parsed JSON: a list of frames, one frame, or an object that holds the list."""
    if isinstance(data, Mapping):
        data = data.get("frames", [data])
    if not isinstance(data, list) or not all(isinstance(frame, Mapping) for frame in data):
        raise PoseError("expected a list of frames with people, canvas_width and canvas_height")
    if not data:
        raise PoseError("there are no frames in it")
    try:
        size = (int(data[0]["canvas_width"]), int(data[0]["canvas_height"]))
        given = data[0].get("fps", DEFAULT_FPS)
        fps = Fraction(given)
        if isinstance(given, float):
            fps = fps.limit_denominator(LARGEST_DENOMINATOR)
    except KeyError as error:
        raise PoseError(f"frame 0 has no {error.args[0]}: add the size of the video in pixels") from error
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise PoseError(f"frame 0 has a size or an fps that is no number ({error})") from error
    people = [_people(frame, number) for number, frame in enumerate(data)]
    found = np.concatenate([each.keypoints for each in people])
    if len(found) and np.abs(found).max() <= 1:  # some DWPose tools write fractions of the canvas
        people = [Detections(each.keypoints * np.array(size, np.float32), each.scores) for each in people]
    keypoints, scores = follow(people)
    return PoseSequence(keypoints, scores, size, fps)


def _people(frame: Mapping[str, Any], number: int) -> Detections:
    """Everybody in one frame of JSON."""
    people = frame.get("people")
    if not isinstance(people, list) or not all(isinstance(person, Mapping) for person in people):
        raise PoseError(f"frame {number} has no list of people")
    triples = np.zeros((len(people), skeleton.NUM_OPENPOSE, 3))
    for triple, person in zip(triples, people, strict=True):
        for name, part in PARTS.items():
            values = person.get(name)
            if values:
                _fill(triple, name, part, _triples(values, name, number))
    if not np.isfinite(triples).all():
        raise PoseError(
            f"frame {number} holds NaN or infinite values: set unseen keypoints to 0 with score 0"
        )
    keypoints, scores = skeleton.from_openpose(triples[..., :2], triples[..., 2])
    return Detections(keypoints.astype(np.float32), scores.astype(np.float32))


def _triples(values: Any, name: str, number: int) -> np.ndarray:
    """A flat list of x, y, score as [n, 3]."""
    try:
        return np.array(values, np.float64).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise PoseError(f"{name} of frame {number} is no list of x, y, score ({error})") from error


def _fill(triple: np.ndarray, name: str, part: slice, points: np.ndarray) -> None:
    """Put a part's points [n, 3] into a person's [134, 3]; the variants of OpenPose are cut to ours."""
    if part == skeleton.OPENPOSE_BODY and len(points) == 25:
        triple[skeleton.OPENPOSE_FEET] = points[19:]
        points = points[BODY_25_TO_18]
    elif part == skeleton.OPENPOSE_FACE and len(points) == 70:
        points = points[:68]  # the last two are the pupils
    expected = part.stop - part.start
    if len(points) != expected:
        raise PoseError(f"{name} holds {len(points)} points: expected {expected}")
    triple[part] = points
