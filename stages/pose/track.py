"""Poses of one person through a video: estimate, follow, count."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import islice

import numpy as np

from ..errors import PoseError
from ..types import NUM_KEYPOINTS, PoseSequence
from .base import Detections, PoseEstimator
from .report import PoseReport, report
from .skeleton import BODY, VISIBLE
from .steady import steady

BATCH = 8
"""Frames that an estimator gets at once; no more than these are held."""

BEST_JOINTS = 7
"""A person's score is the mean of this many best body joints: head and shoulders are enough."""

MAX_STEP = 0.5
"""A person's joints move by less than this part of the person's size from one sight to the next."""

SEEN_LATELY = 30
"""Frames that a person may be unseen and still be linked to; later ones may continue the track (`follow`)."""

BOX_MARGIN = 0.1
"""Room around the joints in which a point still names a person, in the longer sides of their box."""

Person = int | tuple[float, float]
"""How one of several people is named: by a number from 1 on, from the left, or by a point in pixels."""


def estimate_poses(
    frames: Iterable[np.ndarray],
    estimator: PoseEstimator,
    *,
    fps: Fraction,
    min_score: float,
    max_gap: int,
    name: str,
    smooth: float = 1.0,
    person: Person | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> tuple[PoseSequence, PoseReport]:
    """The poses of one person in a video's frames (uint8 RGB [H, W, 3]): `follow` tells which.

    People who score below `min_score` (see `person_score`) do not count. Gaps of up to `max_gap` frames are
    filled, longer ones score 0, and what trembles is filtered with the strength `smooth`: see `steady`.
    `estimator` is set up; `name` is the video's, for the error;
    `on_frame(n)` is called after n frames are done. Frames are taken a few at a time. Raises PoseError when
    there is no frame, no person in any, or not the one that is named.
    """
    estimator.start()
    found: list[Detections] = []
    size = (0, 0)
    iterator = iter(frames)
    while batch := list(islice(iterator, BATCH)):
        size = (batch[0].shape[1], batch[0].shape[0])
        for people in estimator(batch):
            found.append(people)
            if on_frame is not None:
                on_frame(len(found))
    if not found:
        raise PoseError(f"driving video {name} has no frames: check start and duration")
    seen = [_above(people, min_score) for people in found]
    if not any(len(people) for people in seen):
        raise PoseError(
            f"no person found in any of the {len(found)} frames of driving video {name} (best score "
            f"{_best_score(found):.2f}): use a video that shows a person, or lower estimator.min_score"
        )
    try:
        keypoints, scores = follow(seen, person)
    except PoseError as error:
        raise PoseError(f"{name}: {error}") from None
    poses = steady(PoseSequence(keypoints, scores, size, fps), max_gap, smooth)
    people = max(len(people) for people in seen)
    filled = int(poses.scores.any(1).sum() - scores.any(1).sum())
    return poses, report(poses.scores, filled, people)


def estimate_picture(
    image: np.ndarray, estimator: PoseEstimator, *, min_score: float, name: str
) -> tuple[PoseSequence, PoseReport]:
    """The pose of the largest person in the reference image (uint8 RGB [H, W, 3]): a sequence of one frame.

    Raises PoseError when nobody scores `min_score`.
    """
    estimator.start(static=True)
    found = estimator([image])[0]
    seen = _above(found, min_score)
    if not len(seen):
        raise PoseError(
            f"no person found in reference image {name} (best score {_best_score([found]):.2f}): use a "
            "full-body photo, lower estimator.min_score, choose --align none, or put a keypoint file beside "
            "the picture (NAME.npz)"
        )
    keypoints, scores = follow([seen])
    size = (image.shape[1], image.shape[0])
    return PoseSequence(keypoints, scores, size, Fraction(1)), report(scores, 0, len(seen))


def person_score(scores: np.ndarray) -> float:
    """How surely this is a person, 0 to 1: the mean of the seven best body joints of `scores` [133]."""
    return float(np.sort(scores[BODY])[-BEST_JOINTS:].mean())


def person_size(keypoints: np.ndarray, scores: np.ndarray) -> float:
    """Geometric mean of the sides of the box around the seen body joints, in pixels; 0 for fewer than two."""
    joints = keypoints[BODY][scores[BODY] > VISIBLE]
    return float(np.sqrt(np.prod(np.ptp(joints, axis=0)))) if len(joints) > 1 else 0.0


def follow(people: list[Detections], person: Person | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One person's keypoints float32 [T, 133, 2] and scores [T, 133]; zeros where there is none.

    Detections are linked to tracks by the distance of their joints. The track with the largest sum of sizes
    over its frames wins, so both size and constancy count; or that of the `person` who is named. A track that
    never appears beside it continues it (after a cut, or a jump), the largest first. Raises PoseError where
    the named person is never seen.
    """
    sizes = [
        np.array([person_size(*one) for one in zip(here.keypoints, here.scores, strict=True)])
        for here in people
    ]
    tracks = _link(people, sizes)
    tracks.sort(key=lambda track: -sum(sizes[frame][i] for frame, i in track.items()))
    chosen: dict[int, int] = {}
    if person is not None:
        frame, i = find_person(people, person)
        tracks.sort(key=lambda track: track.get(frame) != i)
    for track in tracks:
        if chosen.keys().isdisjoint(track):
            chosen |= track
    keypoints = np.zeros((len(people), NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((len(people), NUM_KEYPOINTS), np.float32)
    for frame, i in chosen.items():
        keypoints[frame], scores[frame] = people[frame].keypoints[i], people[frame].scores[i]
    return keypoints, scores


def find_person(people: list[Detections], person: Person) -> tuple[int, int]:
    """The first frame that shows who is named, and which of its people that is. PoseError for nobody.

    A number counts from the left in the first frame that shows so many; a point is first seen inside the box
    around somebody's body joints, and of several the nearest centre's.
    """
    for frame, here in enumerate(people):
        boxes = [_box(*one) for one in zip(here.keypoints, here.scores, strict=True)]
        if isinstance(person, int):
            if len(boxes) >= person:
                return frame, sorted(range(len(boxes)), key=lambda i: boxes[i].mean(0)[0])[person - 1]
            continue
        at = [i for i, box in enumerate(boxes) if (box[0] <= person).all() and (person <= box[1]).all()]
        if at:
            return frame, min(at, key=lambda i: float(np.linalg.norm(boxes[i].mean(0) - person)))
    most = max((len(here) for here in people), default=0)
    what = f"person {person}" if isinstance(person, int) else "nobody at {:g},{:g}".format(*person)
    raise PoseError(
        f"--person: there is {'no ' if isinstance(person, int) else ''}{what}, of at most {most} people seen "
        "at once: give a number from the left, a point inside a person, or another --estimator.name "
        "(mediapipe sees the two largest)"
    )


def _box(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The box [2, 2] around a person's seen body joints and BOX_MARGIN: least and largest x and y."""
    joints = keypoints[BODY][scores[BODY] > VISIBLE]
    if not len(joints):
        return np.full((2, 2), np.inf)
    margin = BOX_MARGIN * np.ptp(joints, axis=0).max()
    return np.stack([joints.min(0) - margin, joints.max(0) + margin])


def _link(people: list[Detections], sizes: list[np.ndarray]) -> list[dict[int, int]]:
    """Tracks, each as frame -> which person of that frame: nearest first, within MAX_STEP and SEEN_LATELY."""
    tracks: list[dict[int, int]] = []
    live: list[tuple[int, int, int]] = []  # track, and its last frame and person
    for frame, here in enumerate(people):
        live = [last for last in live if frame - last[1] <= SEEN_LATELY]
        steps = _steps(people, sizes, live, frame)
        owners: dict[int, int] = {}
        taken: set[int] = set()
        for place in np.argsort(steps, axis=None, kind="stable"):
            row, i = divmod(int(place), len(here))
            if steps[row, i] >= MAX_STEP:
                break
            if row not in taken and i not in owners:
                taken.add(row)
                owners[i] = live[row][0]
        for i in range(len(here)):
            if i not in owners:
                owners[i] = len(tracks)
                tracks.append({})
            tracks[owners[i]][frame] = i
        seen = [(track, frame, i) for i, track in owners.items()]
        live = sorted([last for row, last in enumerate(live) if row not in taken] + seen)
    return tracks


def _steps(
    people: list[Detections], sizes: list[np.ndarray], live: list[tuple[int, int, int]], frame: int
) -> np.ndarray:
    """From each live track's last sight to each person of `frame` [n, m]: mean way of the body joints that
    both show, over the larger one's size; infinite for none.
    """
    here, shape = people[frame], (len(live), len(people[frame]))
    if 0 in shape:
        return np.full(shape, np.inf)
    points = np.stack([people[when].keypoints[i, BODY] for _, when, i in live])
    shown = np.stack([people[when].scores[i, BODY] for _, when, i in live]) > VISIBLE
    size = np.maximum(np.array([sizes[when][i] for _, when, i in live])[:, None], sizes[frame])
    both = shown[:, None] & (here.scores[:, BODY] > VISIBLE)
    ways = np.linalg.norm(points[:, None] - here.keypoints[:, BODY], axis=-1)
    count = both.sum(-1)
    comparable = (count > 0) & (size > 0)
    total = (ways * both).sum(-1)
    return np.where(comparable, total / np.maximum(count, 1) / np.where(size > 0, size, 1), np.inf)


def _above(people: Detections, min_score: float) -> Detections:
    keep = [i for i, scores in enumerate(people.scores) if person_score(scores) >= min_score]
    return Detections(people.keypoints[keep], people.scores[keep])


def _best_score(found: list[Detections]) -> float:
    return max((person_score(scores) for people in found for scores in people.scores), default=0.0)
