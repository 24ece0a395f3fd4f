"""Scores of people, on made-up poses whose answers are known."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.datasets.curation import dance
from posedance.datasets.curation.clip import Box, Clip, DensePoses, Frames, SparsePoses
from posedance.datasets.curation.crop import crop_box
from posedance.datasets.curation.people import (
    alone,
    beside,
    count_people,
    everybody,
    hands_sharpness,
    likeness,
    person,
    sparse,
)
from posedance.datasets.curation.scores import LEVELS, SCORES, Score, refuses
from posedance.stages.pose.base import Detections
from posedance.stages.types import PoseSequence, VideoInfo

FPS = Fraction(15)
PICTURE = Box(0, 0, 200, 400)


def standing(count: int = 30) -> np.ndarray:
    """A person 300 pixels high in the middle of PICTURE, keypoints [T, 133, 2]."""
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(60, 140, 133), rng.uniform(60, 340, 133)], -1)
    points[0], points[15], points[16] = (100, 50), (80, 350), (120, 350)
    points[5], points[6], points[11], points[12] = (80, 120), (120, 120), (85, 220), (115, 220)
    points[91:112] = np.array([130, 230]) + rng.uniform(-15, 15, (21, 2))
    points[112:133] = np.array([70, 230]) + rng.uniform(-15, 15, (21, 2))
    points[7], points[9], points[91], points[100] = (130, 155), (130, 215), (130, 218), (130, 235)
    points[8], points[10], points[112], points[121] = (70, 155), (70, 215), (70, 218), (70, 235)
    return points[None].repeat(count, 0)


def poses(points: np.ndarray, scores: np.ndarray | None = None) -> DensePoses:
    count = len(points)
    scores = np.ones((count, 133)) if scores is None else scores
    sequence = PoseSequence(points, scores, (PICTURE.width, PICTURE.height), FPS)
    still = np.array([[1, 0, 0], [0, 1, 0]], np.float32)[None].repeat(count, 0)
    hands = np.full((count, 2), 0.5, np.float32)
    return DensePoses(
        sequence, np.arange(count), PICTURE, hands, still, np.zeros((count, 16, 16, 3), np.uint8)
    )


def unseen(part: slice, frames: slice) -> DensePoses:
    scores = np.ones((30, 133))
    scores[frames, part] = 0
    return poses(standing(), scores)


@pytest.mark.parametrize(
    ("score", "part"),
    [
        (dance.body, slice(0, 133)),
        (dance.left_hand, slice(91, 112)),
        (dance.right_hand, slice(112, 133)),
        (dance.face, slice(23, 91)),
    ],
)
def test_a_part_is_seen_in_a_share_of_the_frames(score, part: slice) -> None:
    assert score(poses(standing())) == 1.0
    assert score(unseen(part, slice(0, 12))) == pytest.approx(18 / 30)


def test_a_hand_beyond_the_frame_is_not_seen() -> None:
    points = standing()
    points[:15, 91:112] += (300, 0)
    assert dance.left_hand(poses(points)) == 0.5 and dance.right_hand(poses(points)) == 1.0


def test_one_hand_that_is_taken_for_both_is_none() -> None:
    points = standing()
    points[:12, 112:133] = points[:12, 91:112] + (5, 0)
    found = poses(points)
    assert dance.left_hand(found) == dance.right_hand(found) == pytest.approx(18 / 30)
    alone = np.ones((30, 133))
    alone[:12, 112:133] = 0
    assert dance.left_hand(poses(points, alone)) == 1.0


def test_a_hidden_hand_stays_hidden_where_left_and_right_are_exchanged_for_a_while() -> None:
    scores = np.ones((30, 133))
    scores[:, 112:133] = 0
    points = standing()
    points[:, 13:15] = (85, 285), (115, 285)
    there = np.arange(133)
    for one, other in [*dance.PAIRS, *zip(range(91, 112), range(112, 133), strict=True)]:
        there[one], there[other] = other, one
    points[8:18], scores[8:18] = points[8:18][:, there], scores[8:18][:, there]
    found = poses(points, scores)
    assert dance.exchanged(found).tolist() == [8 <= frame < 18 for frame in range(30)]
    assert dance.left_hand(found) == 1.0 and dance.right_hand(found) == 0.0
    assert not dance.exchanged(poses(standing())).any()


def test_a_hand_counts_by_its_score_where_it_is_its_arms_own() -> None:
    unsure = np.ones((30, 133))
    unsure[:15, 91:112] = 0.6
    assert dance.left_hand(poses(standing(), unsure)) == pytest.approx(0.8)
    points = standing()
    points[:6, 91:112] += (20, 0)
    points[6:12, 91:112, 1] = 430 - points[6:12, 91:112, 1]
    assert dance.left_hand(poses(points)) == pytest.approx(18 / 30), "off the wrist, or back along the arm"
    points = standing()
    points[:12, [8, 10]] += (45, 0)
    alone = np.ones((30, 133))
    alone[:12, 112:133] = 0
    assert dance.left_hand(poses(points, alone)) == pytest.approx(18 / 30), "it may be the other arm's"


def test_confidence_is_the_mean_of_the_body_where_it_is_seen() -> None:
    scores = np.full((30, 133), 0.8)
    scores[:10] = 0
    assert dance.confidence(poses(standing(), scores)) == pytest.approx(0.8)
    assert dance.confidence(poses(standing(), np.zeros((30, 133)))) == 0.0


def test_size_is_height_over_the_pictures() -> None:
    assert dance.person_size(poses(standing())) == pytest.approx(300 / 400)
    assert dance.person_size(poses(standing() * 0.5)) == pytest.approx(150 / 400)


def test_inside_counts_the_bodys_joints() -> None:
    points = standing()
    points[:, 13:17] += (0, 500)
    assert dance.inside(poses(points)) == pytest.approx(13 / 17)


def test_motion_is_heights_a_second_without_the_cameras() -> None:
    points = standing()
    moving = points + np.arange(30)[:, None, None] * np.array([2.0, 0])
    assert dance.motion(poses(points)) == 0.0
    assert dance.motion(poses(moving)) == pytest.approx(2 * 15 / 300)
    panned = poses(moving)
    panned.camera[1:, 0, 2] = 2.0
    assert dance.motion(panned) == pytest.approx(0, abs=1e-5)


def test_a_zooming_camera_is_taken_out_too() -> None:
    zooms = 1.01 ** np.arange(30)
    zoomed = poses(standing() * zooms[:, None, None])
    zoomed.camera[1:, :, :2] = np.eye(2) * 1.01
    assert dance.motion(zoomed) == pytest.approx(0, abs=1e-4)


def test_jitter_tells_shaking_from_dancing() -> None:
    time = np.arange(30)[:, None, None] / 15
    swing = standing() + 30 * np.sin(2 * np.pi * 0.7 * time)
    shaken = standing() + 10 * (-1.0) ** np.arange(30)[:, None, None]
    assert dance.jitter(poses(swing)) < 0.35 < 0.9 < dance.jitter(poses(shaken))
    assert dance.jitter(poses(standing())) == 0.0


def test_hands_that_are_not_seen_have_no_say_in_sharpness() -> None:
    dense = poses(standing())
    dense.hand_sharpness[:, 0] = 0
    assert dance.hand_sharpness(dense) == 0.5
    dense.hand_sharpness[:] = 0
    assert dance.hand_sharpness(dense) == 0.0


def test_sharpness_is_measured_in_the_hand() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (400, 200, 3)).astype(np.uint8)
    picture[80:200, 0:110] = 128
    points = standing(1)
    points[0, 91:112] = rng.uniform((30, 110), (80, 170), (21, 2))
    points[0, 112:133] = rng.uniform((110, 210), (160, 270), (21, 2))
    scores = np.ones((1, 133), np.float32)
    left, right = hands_sharpness(picture, Detections(points.astype(np.float32), scores))
    assert left == 0.0 < 0.3 < right


def people(*sizes: float) -> Detections:
    points = np.stack([standing(1)[0] * size for size in sizes]) if sizes else np.zeros((0, 133, 2))
    return Detections(points.astype(np.float32), np.ones((len(sizes), 133), np.float32))


def test_people_are_counted_without_those_far_behind() -> None:
    counts = [count_people(found) for found in (people(), people(1), people(1, 0.8), people(1, 0.2))]
    assert counts == [0, 1, 2, 1]


def test_person_and_alone_are_shares_of_samples() -> None:
    found = SparsePoses((people(1), people(), people(1, 1), people(1)), (0, 1, 2, 3), (200, 400))
    assert person(found) == 0.75 and alone(found) == pytest.approx(2 / 3)
    assert alone(SparsePoses((people(),), (0,), (200, 400))) == 1.0


@pytest.mark.parametrize(("several", "looked_at", "share"), [
    ((), (0, 2, 4), 1.0), ((2,), (0, 1, 2, 3, 4), 0.8), ((0, 1, 2, 3, 4), (0, 2, 4), 0.0),
])  # fmt: skip
def test_where_samples_disagree_all_are_looked_at(several: tuple[int, ...], looked_at, share: float) -> None:
    samples = np.zeros((5, 100, 300, 3), np.uint8)
    samples[:, 50, 60, 0] = 255
    samples[list(several), 50, 200, 0] = 255
    info = VideoInfo(300, 100, FPS, 5, 5 / FPS, False)
    frames = Frames(info, Clip(Path("a.mp4"), 0, 5, FPS), samples, samples, np.arange(5))
    found = sparse(frames, SeesOne(300))  # pyright: ignore[reportArgumentType]
    assert found.looked_at == looked_at and alone(found) == pytest.approx(share)


class SeesOne:
    """An estimator that sees the bright spots of a picture as people, of the whole picture only the first."""

    def __init__(self, width: int) -> None:
        self.width = width

    def start(self, static: bool) -> None:
        assert static

    def __call__(self, pictures: list[np.ndarray]) -> list[Detections]:
        (picture,) = pictures
        spots = np.flatnonzero(picture[:, :, 0].max(0) == 255)[
            : 1 if picture.shape[1] == self.width else None
        ]
        if not len(spots):
            return [people()]
        sizes = [(1, 0.1) if picture[:, spot, 1].any() else (1, 1) for spot in spots]
        points = np.stack([standing(1)[0] / 4 * size for size in sizes])
        points[:, :, 0] += spots[:, None] - 25
        return [Detections(points.astype(np.float32), np.ones((len(spots), 133), np.float32))]


@pytest.mark.parametrize("spots", [(60,), (60, 200), (200, 30), (60, 62)])
def test_people_beside_the_first_are_looked_for_again(spots: tuple[int, ...]) -> None:
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[50, list(spots), 0] = 255
    found = everybody(picture, SeesOne(300))  # pyright: ignore[reportArgumentType]
    near = abs(spots[0] - spots[-1]) < 5
    assert count_people(found) == (1 if near else len(spots))
    assert sorted(found.keypoints[:, 5:7, 0].mean(1)) == pytest.approx(
        sorted(spots[:1] if near else spots), abs=1
    )


def test_what_is_no_taller_than_an_arm_is_nobody_else() -> None:
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[50, [60, 200]] = 255
    picture[50, 60, 1] = 0
    assert len(everybody(picture, SeesOne(300))) == 1  # pyright: ignore[reportArgumentType]


def test_no_other_person_is_looked_for_where_there_is_no_room() -> None:
    joints = np.array([[20, 10], [80, 90]], np.float32)
    assert beside(joints, 90, 100) == [Box(0, 0, 20, 100)]
    assert beside(joints, 300, 100) == [Box(0, 0, 20, 100), Box(81, 0, 300, 100)]


def test_a_likeness_follows_the_dancer() -> None:
    """The same dancer larger and elsewhere looks the same."""
    rng = np.random.default_rng(0)
    colours = rng.integers(1, 256, (40, 20, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
    small = np.zeros_like(colours)
    small[100:300, 50:150] = colours[::2, ::2]
    near = Detections(standing(1).astype(np.float32), np.ones((1, 133), np.float32))
    far = Detections(near.keypoints / 2 + np.array([50, 100], np.float32), near.scores)
    first, second = likeness(colours, near).astype(float), likeness(small, far).astype(float)
    both = (first.max(-1) > 0) & (second.max(-1) > 0)
    assert both.sum() > 60 and np.abs(first - second)[both].mean() < 20
    assert not likeness(colours, people()).any()


@pytest.mark.parametrize("aspect", [Fraction(9, 16), Fraction(1), Fraction(16, 9)])
def test_a_crop_has_the_aspect_and_shows_the_dancer(aspect: Fraction) -> None:
    picture = Box(20, 10, 1900, 1070)
    sequence = PoseSequence(standing() + np.array([700, 300]), np.ones((30, 133)), (1920, 1080), FPS)
    box = crop_box(sequence, picture, aspect)
    assert box.width / box.height == pytest.approx(float(aspect), rel=0.02)
    assert picture.x0 <= box.x0 and box.x1 <= picture.x1 and picture.y0 <= box.y0 and box.y1 <= picture.y1
    low, high = sequence.keypoints.min((0, 1)), sequence.keypoints.max((0, 1))
    assert (low >= (box.x0, box.y0)).all() and (high < (box.x1, box.y1)).all()
    assert box.width < picture.width and box.height % 2 == box.width % 2 == 0


def test_a_dancer_at_the_edge_is_cropped_within_the_picture() -> None:
    sequence = PoseSequence(standing() - np.array([60, 40]), np.ones((30, 133)), (200, 400), FPS)
    box = crop_box(sequence, PICTURE, Fraction(1))
    assert (box.x0, box.width, box.height) == (0, 200, 200)


def test_without_poses_the_crop_is_the_middle() -> None:
    sequence = PoseSequence(standing(), np.zeros((30, 133)), (200, 400), FPS)
    assert crop_box(sequence, PICTURE, Fraction(1)) == Box(0, 100, 200, 300)


def test_bounds_refuse_what_lies_outside_and_nan() -> None:
    assert not refuses(0.5, 0.5, 0.5) and refuses(0.4, 0.5, None) and refuses(0.6, None, 0.5)
    assert refuses(float("nan"), 0.0, None) and not refuses(float("nan"), None, None)
    assert refuses(False, 1, None) and not refuses(True, 1, None)


def test_the_table_is_in_the_order_of_its_levels_with_names_of_their_own() -> None:
    levels = [LEVELS.index(score.level) for score in SCORES]
    assert levels == sorted(levels) and len({score.name for score in SCORES}) == len(SCORES)
    assert all(score.at_least is not None or score.at_most is not None for score in SCORES)


def test_a_score_whose_extra_is_missing_is_not_measured() -> None:
    row = SCORES[0]
    missing = Score(row.name, row.level, row.measure, 1, None, "no", needs="no_such_module_of_anybody")
    assert row.available() and not missing.available()
    assert replace(missing, needs="json").available()
