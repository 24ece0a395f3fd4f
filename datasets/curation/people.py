"""Who is in a clip: everybody in its samples, and the dancer in each frame of those that survive."""

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from ...stages.pose.base import Detections, PoseEstimator
from ...stages.pose.follow.gaps import fill_gaps
from ...stages.pose.follow.people import person_score, person_size
from ...stages.pose.follow.person import follow
from ...stages.pose.skeleton import BODY, LEFT_HAND, RIGHT_HAND, VISIBLE
from ...stages.types import LARGEST_FRAME, PoseSequence, VideoInfo
from .camera import STILL, camera_step
from .clip import Box, Clip, DensePoses, Frames, SparsePoses, frames_at
from .frames import read_clip, shrink
from .sharpness import sharpness

MIN_SCORE = 0.5
"""Least `person_score` of a person."""
BESIDE = 0.35
"""Size over the largest one's from which a second person counts: others walk by in the background."""
HEADROOM = 0.25
"""Above and below a person's joints, in their height, that other people beside them are looked for in."""
NARROWEST = 0.2
"""Width over height of the room beside a person from which another is looked for in it."""
MAX_GAP = 3
"""Frames without the dancer that are filled from their neighbours."""
SPARSE = 2
"""Samples between two in which people are looked for: one a second. A picture takes as long as 3 frames."""
LOOK = 16
"""Pixels of a side of the dancer's likeness."""
REACH = 2.5
"""How far the likeness reaches from the trunk's middle, in lengths of the trunk."""
WHOLE = 0.99
"""Part of a pixel of the likeness that lies in the picture, from which it counts."""
HAND_SIZE = 32
"""Pixels of a side that larger hands are brought to before their sharpness is measured."""
HAND_BLUR = 5
"""Pixels of the blur that hands are compared with: fingers of drawn dancers are 3 to 5 wide."""
CAMERA_SIZE = 320
"""Pixels of the longer side of pictures in which the background is followed."""


def sparse(frames: Frames, estimator: PoseEstimator) -> SparsePoses:
    """Everybody in every SPARSE-th sample, and in all where these disagree whether somebody is alone.

    `estimator` is set up.
    """
    estimator.start(static=True)
    count = len(frames.samples)
    people = {i: everybody(frames.samples[i], estimator) for i in sparse_samples(count)}
    if len({count_people(found) > 1 for found in people.values()}) > 1:
        people |= {i: everybody(frames.samples[i], estimator) for i in range(count) if i not in people}
    looked_at = tuple(sorted(people))
    size = frames.samples.shape[2], frames.samples.shape[1]
    return SparsePoses(tuple(people[i] for i in looked_at), looked_at, size)


def everybody(picture: np.ndarray, estimator: PoseEstimator) -> Detections:
    """The people of a picture, uint8 [H, W, 3]; where one is found, those beside them are looked for again.

    Detectors of people see a picture small, and miss the second of two people more often than the first.
    """
    found = estimator([picture])[0]
    sure = [i for i, scores in enumerate(found.scores) if person_score(scores) >= MIN_SCORE]
    if len(sure) != 1:
        return found
    joints = found.keypoints[sure[0]][BODY][found.scores[sure[0]][BODY] > VISIBLE]
    keypoints, scores = [found.keypoints], [found.scores]
    for box in beside(joints, picture.shape[1], picture.shape[0]):
        others = tall(estimator([np.ascontiguousarray(box.of(picture))])[0], BESIDE * np.ptp(joints[:, 1]))
        corner = np.array([box.x0, box.y0], np.float32)
        keypoints.append(np.where(others.scores[..., None] > 0, others.keypoints + corner, 0))
        scores.append(others.scores)
    return Detections(np.concatenate(keypoints), np.concatenate(scores))


def tall(people: Detections, least: float) -> Detections:
    """Those whose visible body joints are at least so many pixels from top to bottom: no arm of another."""
    visible = people.scores[:, BODY] > VISIBLE
    low, high = (np.where(visible, people.keypoints[:, BODY, 1], end) for end in (np.inf, -np.inf))
    keep = high.max(1, initial=-np.inf) - low.min(1, initial=np.inf) >= least
    return Detections(people.keypoints[keep], people.scores[keep])


def beside(joints: np.ndarray, width: int, height: int) -> list[Box]:
    """The parts of a picture left and right of a person's joints [n, 2] that are wide enough for another."""
    (left, top), (right, bottom) = joints.min(0), joints.max(0)
    room = HEADROOM * (bottom - top)
    y0, y1 = max(0, int(top - room)), min(height, int(bottom + room) + 1)
    narrowest = NARROWEST * (y1 - y0)
    sides = (Box(0, y0, int(left), y1), Box(int(right) + 1, y0, width, y1))
    return [box for box in sides if box.width >= narrowest and box.height > 0]


def sparse_samples(count: int) -> range:
    """Which of so many samples are looked at: every SPARSE-th, but all of few."""
    return range(0, count, SPARSE if count > 2 * SPARSE else 1)


def count_people(found: Detections) -> int:
    """How many people a picture shows, passers-by far behind not counted."""
    sure = [i for i, scores in enumerate(found.scores) if person_score(scores) >= MIN_SCORE]
    sizes = np.array([person_size(found.keypoints[i], found.scores[i]) for i in sure])
    return int((sizes >= BESIDE * sizes.max()).sum()) if len(sizes) else 0


def person(found: SparsePoses) -> float:
    """The share of the samples that show somebody: 0 to 1."""
    return float(np.mean([count_people(each) > 0 for each in found.people]))


def alone(found: SparsePoses) -> float:
    """The share of the samples with somebody that show one person only: 0 to 1, 1 where there is nobody."""
    counts = np.array([count_people(each) for each in found.people])
    return float((counts[counts > 0] == 1).mean()) if counts.any() else 1.0


def dense(
    clip: Clip,
    info: VideoInfo,
    estimator: PoseEstimator,
    fps: Fraction,
    max_pixels: int = LARGEST_FRAME,
) -> DensePoses:
    """The dancer in the frames that the clip has at `fps`; `estimator` is set up.

    Where nobody is found, scores are 0. Raises VideoError where the clip cannot be read.
    """
    picture = clip.picture(info)
    wanted = frames_at(clip, fps)
    estimator.start()
    found: list[Detections] = []
    hands, looks, cameras = [], [], []
    before: tuple[np.ndarray, Detections] | None = None
    for frame in wanted_frames(clip, wanted, max_pixels):
        inside = np.ascontiguousarray(picture.of(frame))
        dancer = largest(estimator([inside])[0])
        found.append(dancer)
        hands.append(hands_sharpness(inside, dancer))
        looks.append(likeness(inside, dancer))
        small = cv2.cvtColor(shrink(inside, CAMERA_SIZE), cv2.COLOR_RGB2GRAY)
        cameras.append(STILL if before is None else background_step(before, small, inside.shape[1]))
        before = small, dancer
    keypoints, scores = follow(found)
    fill_gaps(keypoints, scores, MAX_GAP)
    offset = np.array([picture.x0, picture.y0], np.float32)
    keypoints = np.where(scores[..., None] > 0, keypoints + offset, 0)
    poses = PoseSequence(keypoints, scores, (info.width, info.height), fps)
    camera = np.stack(cameras)
    camera[:, :, 2] += offset - camera[:, :, :2] @ offset
    return DensePoses(poses, wanted[: len(poses)], picture, np.stack(hands), camera, np.stack(looks))


def wanted_frames(clip: Clip, wanted: np.ndarray, max_pixels: int) -> Iterator[np.ndarray]:
    """The source's frames of these numbers, int64 [T] rising or repeated, uint8 [H, W, 3] each."""
    numbers = (wanted - clip.start_frame).tolist()
    steps = set(np.diff(numbers).tolist())
    stride = steps.pop() if len(steps) == 1 and min(steps) > 0 else 1
    upcoming = 0
    for number, frame in enumerate(read_clip(clip, None, max_pixels, stride)):
        while upcoming < len(numbers) and numbers[upcoming] == number * stride:
            upcoming += 1
            yield frame


def largest(people: Detections) -> Detections:
    """The largest person of a frame, if there is one who scores MIN_SCORE."""
    sizes = [
        person_size(points, scores) if person_score(scores) >= MIN_SCORE else 0.0
        for points, scores in zip(people.keypoints, people.scores, strict=True)
    ]
    best = int(np.argmax(sizes)) if sizes and max(sizes) > 0 else None
    keep = slice(0, 0) if best is None else slice(best, best + 1)
    return Detections(people.keypoints[keep], people.scores[keep])


def hands_sharpness(picture: np.ndarray, dancer: Detections) -> np.ndarray:
    """Sharpness of the left and the right hand's box float32 [2], 0 where it is not seen."""
    values = np.zeros(2, np.float32)
    for side, hand in enumerate((LEFT_HAND, RIGHT_HAND)):
        for points, scores in zip(dancer.keypoints[:, hand], dancer.scores[:, hand], strict=True):
            if (scores > VISIBLE).mean() > 0.5:
                cut = square_around(picture, points)
                if cut is not None:
                    values[side] = sharpness(cut, HAND_BLUR)
    return values


def square_around(picture: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """Luma uint8 [h, w] of the square around points [n, 2]; None where it has less than 8 pixels a side."""
    centre, half = (points.min(0) + points.max(0)) / 2, 0.6 * float(np.ptp(points, axis=0).max())
    low = np.maximum(np.floor(centre - half), 0).astype(int)
    high = np.minimum(np.ceil(centre + half) + 1, picture.shape[1::-1]).astype(int)
    if (high - low).min() < 8:
        return None
    cut = np.ascontiguousarray(picture[low[1] : high[1], low[0] : high[0]])
    luma = cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY)
    if max(luma.shape) <= HAND_SIZE:
        return luma
    return cv2.resize(luma, (HAND_SIZE, HAND_SIZE), interpolation=cv2.INTER_AREA)


def likeness(picture: np.ndarray, dancer: Detections) -> np.ndarray:
    """The dancer uint8 [LOOK, LOOK, 3], REACH trunk lengths around the trunk's middle.

    Black where that lies outside the picture, if only in part, and all black without a dancer; what is in the
    picture is at least 1.
    """
    if not len(dancer):
        return np.zeros((LOOK, LOOK, 3), np.uint8)
    shoulders, hips = dancer.keypoints[0, 5:7].mean(0), dancer.keypoints[0, 11:13].mean(0)
    reach = REACH * max(float(np.linalg.norm(shoulders - hips)), 1.0)
    centre = (shoulders + hips) / 2
    scale = LOOK / (2 * reach)
    height, width = picture.shape[:2]
    small = max(1, round(width * 2 * scale)), max(1, round(height * 2 * scale))
    if small[0] < width:  # twice as fine as the likeness: each pixel is the mean of those that it covers
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    across, down = width / picture.shape[1], height / picture.shape[0]
    fit = np.array(
        [
            [scale * across, 0, LOOK / 2 - scale * (centre[0] - across / 2) - 0.5],
            [0, scale * down, LOOK / 2 - scale * (centre[1] - down / 2) - 0.5],
        ]
    )
    whole = cv2.warpAffine(np.ones(picture.shape[:2], np.float32), fit, (LOOK, LOOK)) > WHOLE
    look = np.maximum(cv2.warpAffine(picture, fit, (LOOK, LOOK), flags=cv2.INTER_LINEAR), 1)
    return np.where(whole[..., None], look, 0).astype(np.uint8)


def background_step(before: tuple[np.ndarray, Detections], small: np.ndarray, width: int) -> np.ndarray:
    """The camera's motion float32 [2, 3] in pixels of the picture, by points outside the dancer's box.

    `before` is the frame before, scaled as `small`, with the dancer in pixels of the picture, which is
    `width` wide.
    """
    picture, dancer = before
    scale = picture.shape[1] / width
    mask = np.full(picture.shape, 255, np.uint8)
    for points, scores in zip(dancer.keypoints, dancer.scores, strict=True):
        seen = points[scores > VISIBLE] * scale
        margin = 0.1 * float(np.ptp(seen, axis=0).max())
        x0, y0, x1, y1 = np.concatenate([seen.min(0) - margin, seen.max(0) + margin]).astype(int).tolist()
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 0
    motion = camera_step(picture, small, mask)
    motion[:, 2] /= scale
    return motion
