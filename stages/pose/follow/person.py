"""Which of several people is followed: how a person is named, and the track of whom a name means."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ...errors import PoseError
from ...types import NUM_KEYPOINTS
from ..base import Detections
from ..skeleton import BODY, VISIBLE
from .people import Track, everyone, person_at, without_doubles

Word = Literal["largest", "center", "left", "right"]
Place = int | tuple[float, float] | tuple[float, float, float, float]
Person = Place | Word
"""How one of several people is named: by a number from 1 on, from the left; by a point, or a box x0, y0, x1,
y1, in pixels; or by a word for who is it for most of the time."""

HOW_TO_NAME = (
    f"give {', '.join(get_args(Word))}, a number from the left, a point X,Y or a box x0,y0,x1,y1 with "
    "x0 < x1 and y0 < y1"
)
"""What to do about a text that names no person."""

BOX_MARGIN = 0.1
"""Room around the joints in which a point still names a person, in the longer sides of their box."""

INSIDE = 0.5
"""The share of a person's seen body joints that a box must hold to name the person."""

CONSTANT = 0.5
"""For a place in the picture, only they count who are seen in this part of the most seen one's frames."""

FEW, FEW_FRAMES = 0.1, 15
"""Who is seen in less than this share of the frames, and in fewer than so many, is no dancer of several."""


def person_of_text(text: str | None) -> Person | None:
    """The person that an option's text names: 2, X,Y, x0,y0,x1,y1, or a word; None for none.

    Raises PoseError for other texts, and for a box without an inside.
    """
    if text is None:
        return None
    for word in get_args(Word):
        if text == word:
            return word
    try:
        numbers = tuple(float(part) for part in text.split(","))
        if len(numbers) == 1:
            return int(text)
    except ValueError:
        numbers = ()
    if len(numbers) == 2:
        return numbers
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise PoseError(f"{text} names nobody: {HOW_TO_NAME}")
    return numbers


def scaled(person: Person | None, zoom: float) -> Person | None:
    """Who is named, in frames that are larger by `zoom`."""
    if not isinstance(person, tuple):
        return person
    if len(person) == 2:
        return person[0] * zoom, person[1] * zoom
    return person[0] * zoom, person[1] * zoom, person[2] * zoom, person[3] * zoom


def follow(
    people: Sequence[Detections], person: Person | None = None, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One person's keypoints float32 [T, 133, 2] and scores [T, 133]; zeros where there is none.

    The person who is named, or else whose sum of sizes over the frames is the largest, so that both size and
    constancy count. `width` is the picture's in pixels: `center` is as far from its sides. Somebody who was
    seen beside the person, or in another place, fills no gap: `people.everyone` tells who may. Raises
    PoseError where the named person is never seen.
    """
    people = [without_doubles(here) for here in people]
    if isinstance(person, tuple | int):
        track = person_at(people, *find_person(people, person))
    else:
        everybody = everyone(people)
        track = _by_word(people, everybody, person or "largest", width) if everybody else {}
    return poses_of(people, track)


def follow_all(people: Sequence[Detections]) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Everybody as `follow` gives one, from the left to the right, and how many are left out.

    These are seen in few frames only (FEW).
    """
    people = [without_doubles(here) for here in people]
    everybody = everyone(people)
    enough = min(FEW * len(people), FEW_FRAMES)
    kept = [track for track in everybody if len(track) >= enough] or everybody[:1]
    kept.sort(key=lambda track: _middle(people, track))
    return [poses_of(people, track) for track in kept], len(everybody) - len(kept)


def poses_of(people: Sequence[Detections], track: Track) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints float32 [T, 133, 2] and scores [T, 133] of a track; zeros where it has none."""
    keypoints = np.zeros((len(people), NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((len(people), NUM_KEYPOINTS), np.float32)
    for frame, i in track.items():
        keypoints[frame], scores[frame] = people[frame].keypoints[i], people[frame].scores[i]
    return keypoints, scores


def _by_word(people: Sequence[Detections], everybody: list[Track], word: Word, width: int | None) -> Track:
    """The track that a word means: of the largest person, or of who is in a place for most of the time."""
    if word == "largest":
        return everybody[0]
    most = max(len(track) for track in everybody)
    constant = [track for track in everybody if len(track) >= CONSTANT * most]
    if word == "center" and width is None:
        raise PoseError("--person center: the picture's size is not known: name the person by a number")
    target = {"left": -np.inf, "right": np.inf, "center": (width or 0) / 2}[word]
    if np.isfinite(target):
        return min(constant, key=lambda track: abs(_middle(people, track) - target))
    return (min if word == "left" else max)(constant, key=lambda track: _middle(people, track))


def _middle(people: Sequence[Detections], track: Track) -> float:
    """Where a person is for most of the time: the median x of the middles of the boxes, in pixels."""
    x = np.stack([people[frame].keypoints[i, BODY, 0] for frame, i in track.items()])
    shown = np.stack([people[frame].scores[i, BODY] for frame, i in track.items()]) > VISIBLE
    low, high = np.where(shown, x, np.inf).min(1), np.where(shown, x, -np.inf).max(1)
    seen = shown.any(1)
    return float(np.median((low[seen] + high[seen]) / 2)) if seen.any() else np.inf


def find_person(people: Sequence[Detections], person: Place) -> tuple[int, int]:
    """The first frame that shows who is named, and which of its people that is. PoseError for nobody.

    A number counts from the left in the first frame that shows so many; a point is first seen inside the box
    around somebody's body joints, and of several the nearest centre's; a box first holds INSIDE of somebody's
    body joints, and of several the one whose own box is most like it.
    """
    for frame, here in enumerate(people):
        boxes = [_box(*one) for one in zip(here.keypoints, here.scores, strict=True)]
        if isinstance(person, int):
            if len(boxes) >= person:
                return frame, sorted(range(len(boxes)), key=lambda i: boxes[i].mean(0)[0])[person - 1]
        elif len(person) == 2:
            at = [i for i, box in enumerate(boxes) if (box[0] <= person).all() and (person <= box[1]).all()]
            if at:
                return frame, min(at, key=lambda i: float(np.linalg.norm(boxes[i].mean(0) - person)))
        elif len(person) == 4:
            wanted = np.reshape(person, (2, 2))
            at = [i for i in range(len(boxes)) if _held(here, i, wanted) >= INSIDE]
            if at:
                return frame, max(at, key=lambda i: _likeness(boxes[i], wanted))
    raise PoseError(_nobody(people, person))


def _nobody(people: Sequence[Detections], person: Place) -> str:
    """Why nobody is who is named, and what to do."""
    most = max((len(here) for here in people), default=0)
    what = f"no person {person}"
    if isinstance(person, tuple):
        where = ",".join(f"{value:g}" for value in person)
        what = f"nobody {'at' if len(person) == 2 else 'inside'} {where}"
    return (
        f"--person: there is {what}, of at most {most} people seen at once: give a number from the left, a "
        "point inside a person, a box around one, or another --estimator.name (mediapipe sees two)"
    )


def _held(here: Detections, i: int, wanted: np.ndarray) -> float:
    """The share of a person's seen body joints inside a box [2, 2]."""
    joints = here.keypoints[i, BODY][here.scores[i, BODY] > VISIBLE]
    inside = (joints >= wanted[0]).all(1) & (joints <= wanted[1]).all(1)
    return float(inside.mean()) if len(joints) else 0.0


def _likeness(box: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes [2, 2]."""
    shared = np.prod(np.clip(np.minimum(box[1], other[1]) - np.maximum(box[0], other[0]), 0, None))
    return float(shared / (np.prod(box[1] - box[0]) + np.prod(other[1] - other[0]) - shared))


def _box(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The box [2, 2] around a person's seen body joints and BOX_MARGIN: least and largest x and y."""
    joints = keypoints[BODY][scores[BODY] > VISIBLE]
    if not len(joints):
        return np.full((2, 2), np.inf)
    margin = BOX_MARGIN * np.ptp(joints, axis=0).max()
    return np.stack([joints.min(0) - margin, joints.max(0) + margin])
