"""The layouts of JSON in which other tools keep poses. To read one more: a function, and a row in LAYOUTS.

    OpenPose, DWPose, sd-webui-openpose-editor   frames with `people`, each flat x, y, score lists
    AlphaPose, COCO, COCO-WholeBody              a list of people, each with `image_id` and `keypoints`
    MMPose                                       frames with `instances`, or a list of instances for each
    openpose-editor                              `width`, `height` and `keypoints`: 18 [x, y] for each person

`docs/poses.md` has them with their numbers of points.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import PoseError
from ..types import NUM_KEYPOINTS
from . import skeleton
from .base import Detections
from .units import in_pixels

DEFAULT_FPS = Fraction(30)
"""Frame rate of JSON that gives none: most tools have no field for it."""

LARGEST_DENOMINATOR = 1001
"""Of a frame rate that JSON gives as a float, as 29.97: a video cannot have the exact value of that."""

MAX_FRAMES = 200_000
"""Frames that are read: nearly two hours at 30 a second."""

MAX_PEOPLE = 500_000
"""People that are read, over all frames: 0.8 GB of keypoints."""

LARGEST_PLACE = 1e6
"""Coordinates beyond this many pixels are no picture's."""

SPARSEST = 10
"""Image ids count frames where at least one of so many numbers is there; else they only tell the order."""

BODY_25_TO_18 = [i for i in range(19) if i != 8]
"""OpenPose's 18 body points among its 25: all before the feet but the middle of the hips."""

PARTS = {
    "pose_keypoints_2d": skeleton.OPENPOSE_BODY,
    "foot_keypoints_2d": skeleton.OPENPOSE_FEET,
    "face_keypoints_2d": skeleton.OPENPOSE_FACE,
    "hand_left_keypoints_2d": skeleton.OPENPOSE_LEFT_HAND,
    "hand_right_keypoints_2d": skeleton.OPENPOSE_RIGHT_HAND,
}

WHOLEBODY_PARTS = {
    "foot_kpts": skeleton.FEET,
    "face_kpts": skeleton.FACE,
    "lefthand_kpts": skeleton.LEFT_HAND,
    "righthand_kpts": skeleton.RIGHT_HAND,
}
"""Where COCO-WholeBody's results keep what its `keypoints` of 17 points lack."""

HALPE_FEET = [20, 22, 24, 21, 23, 25]
"""Of Halpe's 26 body points, COCO-WholeBody's feet. (Halpe alternates left and right, COCO does not.)"""

ORDERS = {
    17: (list(range(17)), list(range(17))),
    26: ([*range(17), *HALPE_FEET], list(range(23))),
    133: (list(range(133)), list(range(133))),
    136: ([*range(17), *HALPE_FEET, *range(26, 136)], list(range(133))),
}
"""By the number of points: which of them are which of the 133. COCO, Halpe's body, COCO-WholeBody, Halpe."""


@dataclass(frozen=True, slots=True)
class FramesOfPeople:
    """What a layout holds: everybody in each frame, the video's size (width, height), its rate if told.

    `canvases` are the sizes of the frames' own pictures, where these have any.
    """

    people: list[Detections]
    size: tuple[int, int]
    fps: Fraction | None = None
    canvases: list[tuple[int, int]] | None = None


def read_layout(data: Any, size: tuple[int, int] | None = None) -> FramesOfPeople:
    """Parsed JSON in any of LAYOUTS, in pixels; `size` is taken where it tells none. Raises PoseError."""
    if isinstance(data, list) and not data:
        raise PoseError("there are no frames in it")
    for fits, read in LAYOUTS:
        if fits(data):
            found = read(data, size)
            canvases = found.canvases or [found.size] * len(found.people)
            return replace(found, people=in_pixels(found.people, canvases, found.size))
    if isinstance(data, Mapping) and "annotations" in data:
        raise PoseError("it is a COCO file, and its annotations have no image_id and keypoints")
    if isinstance(data, Mapping) and "instance_info" in data:
        raise PoseError("it is MMPose's, and there are no frames in it")
    raise PoseError(
        "its layout is not known: expected a list of frames with people (OpenPose, DWPose), of people with "
        "image_id and keypoints (AlphaPose, COCO), of frames with instances (MMPose), or an object with "
        "width, height and keypoints (openpose-editor)"
    )


def _is_openpose(data: Any) -> bool:
    first = _frames(data)[0]
    return isinstance(first, Mapping) and bool({"people", "canvas_width"} & first.keys())


def _openpose(data: Any, size: tuple[int, int] | None) -> FramesOfPeople:
    frames = _checked(_frames(data))
    if not all(isinstance(frame, Mapping) for frame in frames):
        raise PoseError("expected a list of frames with people, canvas_width and canvas_height")
    canvases = _canvases(frames, "canvas_width", "canvas_height", size)
    try:
        given = frames[0].get("fps")
        fps = None if given is None else Fraction(given)
        if fps is not None and isinstance(given, float):
            fps = fps.limit_denominator(LARGEST_DENOMINATOR)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise PoseError(f"frame 0 has an fps that is no number ({error})") from error
    _refuse_crowd(sum(len(f["people"]) for f in frames if isinstance(f.get("people"), list)))
    people = [_openpose_people(frame, number) for number, frame in enumerate(frames)]
    return FramesOfPeople(people, canvases[0], fps, canvases)


def _canvases(
    frames: Sequence[Mapping[str, Any]], width: str, height: str, size: tuple[int, int] | None
) -> list[tuple[int, int]]:
    """The size of each frame's picture under these names; of frames without, the first that is told.

    Where none is told it is `size`, else PoseError.
    """
    told: dict[int, tuple[int, int]] = {}
    for number, frame in enumerate(frames):
        if width in frame or height in frame:
            try:
                told[number] = (int(frame[width]), int(frame[height]))
            except KeyError as error:
                raise PoseError(f"frame {number} has no {error.args[0]}: {TELL_SIZE}") from error
            except (TypeError, ValueError, OverflowError) as error:
                raise PoseError(f"frame {number} has a size that is no number ({error})") from error
            if min(told[number]) < 1:
                raise PoseError(f"frame {number} has a picture of {told[number]}: its sides must be positive")
    usual = next(iter(told.values()), size)
    if usual is None:
        raise PoseError(f"frame 0 has no {width}: {TELL_SIZE}")
    return [told.get(number, usual) for number in range(len(frames))]


def _openpose_people(frame: Mapping[str, Any], number: int) -> Detections:
    """Everybody in one frame of OpenPose's JSON."""
    people = frame.get("people")
    if not isinstance(people, list) or not all(isinstance(person, Mapping) for person in people):
        raise PoseError(f"frame {number} has no list of people")
    triples = np.zeros((len(people), skeleton.NUM_OPENPOSE, 3))
    for triple, person in zip(triples, people, strict=True):
        for name, part in PARTS.items():
            values = person.get(name)
            if values:
                _fill_openpose(triple, name, part, _triples(values, name, f"frame {number}"))
    return _detections(*skeleton.from_openpose(triples[..., :2], triples[..., 2]), f"frame {number}")


def _fill_openpose(triple: np.ndarray, name: str, part: slice, points: np.ndarray) -> None:
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


def _is_results(data: Any) -> bool:
    """A list of AlphaPose's or COCO's results, or a COCO file with `annotations`."""
    found = data.get("annotations") if isinstance(data, Mapping) else data
    return isinstance(found, list) and bool(found) and _has(found[0], "image_id", "keypoints")


def _results(data: Any, size: tuple[int, int] | None) -> FramesOfPeople:
    found = data["annotations"] if isinstance(data, Mapping) else data
    if not all(_has(person, "image_id", "keypoints") for person in found):
        raise PoseError("not all of its people have image_id and keypoints")
    _refuse_crowd(len(found))
    if isinstance(data, Mapping):
        size = _size_of_images(data) or size
    frames: dict[Any, list[Mapping[str, Any]]] = {}
    for person in found:
        frames.setdefault(person["image_id"] if _hashable(person["image_id"]) else "", []).append(person)
    people = []
    for number in _in_order(list(frames)):
        arrays = [_result(person, f"image {number}") for person in frames.get(number, [])]
        people.append(_stacked(arrays, f"image {number}"))
    return FramesOfPeople(people, _told(size, "AlphaPose's or COCO's"))


def _result(person: Mapping[str, Any], where: str) -> np.ndarray:
    """One person [133, 3] of a COCO, COCO-WholeBody or AlphaPose result."""
    triples = _ordered(_triples(person["keypoints"], "keypoints", where), where)
    for name, part in WHOLEBODY_PARTS.items():
        if person.get(name):
            points = _triples(person[name], name, where)
            if len(points) != part.stop - part.start:
                raise PoseError(
                    f"{name} of {where} holds {len(points)} points: expected {part.stop - part.start}"
                )
            triples[part] = points
    return triples


def _in_order(ids: Sequence[Any]) -> list[Any]:
    """Image ids by the last number in each; where they count frames, with those that nobody is in."""
    numbers: dict[int, Any] = {}
    for given in ids:
        digits = re.findall(r"\d+", str(given)[:200])
        if not digits or len(digits[-1]) > 12:
            raise PoseError(f"image_id {str(given)[:50]!r} has no number of a frame in it")
        numbers.setdefault(int(digits[-1]), given)
    if len(numbers) < len(ids):
        raise PoseError("several of its image ids have the same number: give one video a file")
    first, last = min(numbers), max(numbers)
    if last - first + 1 > min(SPARSEST * len(numbers), MAX_FRAMES):
        return [numbers[number] for number in sorted(numbers)]
    return [numbers.get(number, number) for number in range(first, last + 1)]


def _size_of_images(data: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size of a COCO file's pictures, where they have one."""
    images = data.get("images")
    if not isinstance(images, list):
        return None
    sizes = {(image["width"], image["height"]) for image in images if _has(image, "width", "height")}
    if len(sizes) > 1:
        raise PoseError("its pictures have several sizes: give one video a file")
    return next(iter(sizes), None)


def _is_mmpose(data: Any) -> bool:
    if isinstance(data, Mapping):
        data = data.get("instance_info")
    if not isinstance(data, list) or not data:
        return False
    pictures = any(each and _is_instances(each) for each in data)
    return _has(data[0], "instances") or _is_instances(data) or pictures


def _is_instances(data: Any) -> bool:
    return isinstance(data, list) and all(_has(each, "keypoints", "keypoint_scores") for each in data)


def _mmpose(data: Any, size: tuple[int, int] | None) -> FramesOfPeople:
    if isinstance(data, Mapping):
        data = data["instance_info"]
    if _is_instances(data):
        data = [data]  # one picture
    frames: list[Any] = [
        each.get("instances") if isinstance(each, Mapping) else each for each in _checked(data)
    ]
    if not all(_is_instances(each) for each in frames):
        raise PoseError("not all of its frames have instances with keypoints and keypoint_scores")
    _refuse_crowd(sum(len(each) for each in frames))
    people = []
    for number, frame in enumerate(frames):
        where = f"frame {number}"
        arrays = []
        for person in frame:
            points = _numbers(person["keypoints"], (-1, 2), "keypoints", where)
            scores = _numbers(person["keypoint_scores"], (-1, 1), "keypoint_scores", where)
            if len(points) != len(scores):
                raise PoseError(f"{where} has {len(points)} keypoints and {len(scores)} scores")
            arrays.append(_ordered(np.concatenate([points, scores], 1), where))
        people.append(_stacked(arrays, where))
    return FramesOfPeople(people, _told(size, "MMPose's"))


def _is_editor(data: Any) -> bool:
    first = _frames(data)[0]
    return _has(first, "width", "height", "keypoints")


def _editor(data: Any, size: tuple[int, int] | None) -> FramesOfPeople:
    frames = _checked(_frames(data))
    if not all(_has(frame, "width", "height", "keypoints") for frame in frames):
        raise PoseError("not all of its frames have width, height and keypoints")
    canvases = _canvases(frames, "width", "height", size)
    people = []
    for number, frame in enumerate(frames):
        where = f"frame {number}"
        points = _numbers(frame["keypoints"], (-1, 2), "keypoints", where)
        if len(points) % 18:
            raise PoseError(f"{where} holds {len(points)} points: expected 18 for each person")
        _refuse_crowd(len(points) // 18)
        whole = np.zeros((len(points) // 18, skeleton.NUM_OPENPOSE, 3))
        whole[:, skeleton.OPENPOSE_BODY, :2] = points.reshape(-1, 18, 2)
        whole[:, skeleton.OPENPOSE_BODY, 2] = 1
        people.append(_detections(*skeleton.from_openpose(whole[..., :2], whole[..., 2]), where))
    return FramesOfPeople(people, canvases[0], canvases=canvases)


LAYOUTS: tuple[tuple[Callable[[Any], bool], Callable[..., FramesOfPeople]], ...] = (
    (_is_openpose, _openpose),
    (_is_results, _results),
    (_is_mmpose, _mmpose),
    (_is_editor, _editor),
)
"""How each layout is known, and how it is read."""

TELL_SIZE = "give the size of the video with --pose-size WIDTHxHEIGHT, or the video itself"


def _frames(data: Any) -> list[Any]:
    """The frames of a list, of an object with `frames`, of a list of lists of one, or of a single object."""
    if isinstance(data, Mapping):
        data = data.get("frames", [data])
    if not isinstance(data, list) or not data:
        return [None]
    return [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]


def _checked(frames: Sequence[Any]) -> Sequence[Any]:
    if len(frames) > MAX_FRAMES:
        raise PoseError(f"it has {len(frames)} frames: at most {MAX_FRAMES} are read, cut it in parts")
    return frames


def _refuse_crowd(people: int) -> None:
    if people > MAX_PEOPLE:
        raise PoseError(f"it has {people} people: at most {MAX_PEOPLE} are read, cut it in parts")


def _told(size: tuple[int, int] | None, whose: str) -> tuple[int, int]:
    if size is None:
        raise PoseError(f"it is {whose}, which has no size of the picture: {TELL_SIZE}")
    return size


def _has(entry: Any, *names: str) -> bool:
    return isinstance(entry, Mapping) and all(name in entry for name in names)


def _hashable(value: Any) -> bool:
    return isinstance(value, str | int)


def _ordered(triples: np.ndarray, where: str) -> np.ndarray:
    """A person of 17, 26, 133 or 136 points [n, 3] as COCO-WholeBody's [133, 3]."""
    if len(triples) not in ORDERS:
        known = ", ".join(map(str, ORDERS))
        raise PoseError(f"{where} holds people of {len(triples)} points: expected {known}")
    theirs, ours = ORDERS[len(triples)]
    person = np.zeros((NUM_KEYPOINTS, 3))
    person[ours] = triples[theirs]
    return person


def _stacked(people: Sequence[np.ndarray], where: str) -> Detections:
    """People [133, 3] as Detections."""
    whole = np.array(people).reshape(-1, NUM_KEYPOINTS, 3)
    return _detections(whole[..., :2], whole[..., 2], where)


def _detections(keypoints: np.ndarray, scores: np.ndarray, where: str) -> Detections:
    """Checked: finite, of a picture's size, and scored from 0 to 1 (visibilities of 2 are 1)."""
    if not np.isfinite(keypoints).all() or not np.isfinite(scores).all():
        raise PoseError(f"{where} holds NaN or infinite values: set unseen keypoints to 0 with score 0")
    if np.abs(keypoints).max(initial=0) > LARGEST_PLACE:
        raise PoseError(f"{where} holds a keypoint {np.abs(keypoints).max():.3g} pixels away: check the file")
    return Detections(keypoints.astype(np.float32), np.clip(scores, 0, 1).astype(np.float32))


def _triples(values: Any, name: str, where: str) -> np.ndarray:
    """A flat list of x, y, score as float64 [n, 3]."""
    return _numbers(values, (-1, 3), name, where)


def _numbers(values: Any, shape: tuple[int, int], name: str, where: str) -> np.ndarray:
    """A list of numbers, nested or not, as float64 of `shape`."""
    try:
        return np.array(values, np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        names = {1: "scores", 2: "x, y", 3: "x, y, score"}[shape[1]]
        raise PoseError(f"{name} of {where} is no list of {names} ({error})") from error
