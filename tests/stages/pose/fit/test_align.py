"""Alignment: the recorded fit, there and back, and what the robust fit promises."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.datasets.puppets.camera import camera
from posedance.datasets.puppets.motion import Motion
from posedance.datasets.puppets.render import Framing, make_character, make_motion, reference_pose
from posedance.datasets.puppets.skeleton import joints_133
from posedance.datasets.puppets.skeleton import skeleton as bones
from posedance.stages.errors import PoseError
from posedance.stages.media.picture import fit_cover
from posedance.stages.media.placement import centre_crop
from posedance.stages.pose import skeleton
from posedance.stages.pose.fit.affine import (
    FITTED_JOINTS,
    Alignment,
    least_squares,
    placed_alignment,
    weighted_median,
)
from posedance.stages.pose.fit.align import ALIGNMENTS, align, fit_alignment
from posedance.stages.types import PoseSequence

FPS = Fraction(25)
STANDING = np.array([
    [50, 15], [52, 13], [48, 13], [55, 14], [45, 14], [62, 30], [38, 30], [68, 48], [32, 48],
    [72, 65], [28, 65], [57, 65], [43, 65], [58, 90], [42, 90], [58, 115], [42, 115],
])  # fmt: skip
"""A plain standing body, COCO order, in a frame of 100 x 130."""


def person(frames: int = 1, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> PoseSequence:
    """A standing person whose feet, face and hands sit on the body."""
    body = STANDING * scale + shift
    hosts = [15, 15, 15, 16, 16, 16] + [0] * 68 + [9] * 21 + [10] * 21
    points = np.concatenate([body, body[hosts] + np.linspace(0, 2, 116)[:, None]])
    return PoseSequence(np.tile(points, (frames, 1, 1)), np.ones((frames, 133)), (100, 130), FPS)


def moved(poses: PoseSequence, by: np.ndarray) -> PoseSequence:
    """Each frame shifted by `by` [T, 2] pixels."""
    return PoseSequence(poses.keypoints + by[:, None], poses.scores, poses.size, FPS)


def test_golden_pose_alignment_fit(golden: Path):
    folder = golden / "pose_alignment"
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "raw_detections.npz") as raw, np.load(folder / "poses_aligned.npz") as aligned:
        alone = [i for i in meta["sampled_frames"] if raw["video_people"][i] == 1]
        video = raw["video_keypoints133"][alone, 0], raw["video_scores133"][alone, 0]
        size, reference_size = raw["video_size_hw"][::-1], raw["reference_size_hw"][::-1]
        points, _ = skeleton.to_openpose(*video)
        target, scores = skeleton.to_openpose(raw["reference_keypoints133"][0], raw["reference_scores133"][0])
        joints = [j for j in FITTED_JOINTS if scores[j] > skeleton.VISIBLE]
        assert joints == meta["reference_keypoint_ids"]
        aspect = (size[1] / size[0]) / (reference_size[1] / reference_size[0])
        pairs = np.broadcast_to(target[joints] / reference_size, (*points[:, joints].shape[:2], 2))
        scale, offset = least_squares((points[:, joints] / size).reshape(-1, 2), pairs.reshape(-1, 2), aspect)
        np.testing.assert_allclose(scale, aligned["a"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(offset, aligned["b"], rtol=0, atol=1e-9)


def test_golden_pose_alignment_of_a_sequence(golden: Path):
    folder = golden / "pose_alignment"
    sampled = json.loads((folder / "meta.json").read_text())["sampled_frames"]
    with np.load(folder / "raw_detections.npz") as raw, np.load(folder / "poses_aligned.npz") as aligned:
        names = {i: f"frame{q:02d}" for q, i in enumerate(sampled) if raw["video_people"][i] == 1}
        alone = list(names)
        width, height = raw["video_size_hw"][::-1].tolist()
        driver = PoseSequence(
            raw["video_keypoints133"][alone, 0], raw["video_scores133"][alone, 0], (width, height), FPS
        )
        width, height = raw["reference_size_hw"][::-1].tolist()
        reference = PoseSequence(
            raw["reference_keypoints133"], raw["reference_scores133"], (width, height), FPS
        )
        fit = fit_alignment(driver, reference, "published")
        # float32 pixels round what float64 fractions recorded
        np.testing.assert_allclose(fit.scale, aligned["a"], rtol=1e-5)
        np.testing.assert_allclose(fit.offset, aligned["b"], rtol=1e-4)
        points, scores = skeleton.to_openpose(fit.apply(driver).keypoints, driver.scores)
        for frame, name in enumerate(names.values()):
            fractions = points[frame] / (width, height)
            recorded = aligned[f"{name}_candidate"]
            np.testing.assert_allclose(fractions[skeleton.OPENPOSE_BODY], recorded, atol=1e-5)
            hands = fractions[skeleton.OPENPOSE_LEFT_HAND.start :].reshape(2, 21, 2)
            np.testing.assert_allclose(hands, aligned[f"{name}_hands"], atol=1e-5)
            faces = fractions[skeleton.OPENPOSE_FACE]
            np.testing.assert_allclose(faces, aligned[f"{name}_faces"][0], atol=1e-5)
            np.testing.assert_allclose(scores[frame, :18], aligned[f"{name}_score"][0], atol=1e-7)


@given(
    st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
    st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    st.integers(0, 2**31),
)
@settings(max_examples=50)
def test_scale_and_offset_act_on_fractions(
    scale: tuple[float, float], offset: tuple[float, float], seed: int
):
    rng = np.random.default_rng(seed)
    scores = rng.choice([0, 0.5, 1], (3, 133))
    poses = PoseSequence(rng.uniform(0, 500, (3, 133, 2)), scores, (640, 480), FPS)
    fitted = Alignment(scale, offset, (512, 768), "robust").apply(poses)
    wanted = (poses.keypoints / (640, 480) * scale + offset) * (512, 768)
    wanted[poses.scores == 0] = poses.keypoints[poses.scores == 0]
    np.testing.assert_allclose(fitted.keypoints, wanted, atol=0.02)
    assert fitted.size == (512, 768) and fitted.fps == FPS and np.array_equal(fitted.scores, poses.scores)


@pytest.mark.parametrize("method", ["published", "robust", "limbs"])
@given(
    zoom=st.floats(0.2, 3),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    size=st.tuples(st.integers(64, 800), st.integers(64, 800)),
)
@settings(max_examples=40, deadline=None)
def test_a_scaled_and_shifted_driver_lands_on_the_reference(
    method: str, zoom: float, shift: tuple[float, float], size: tuple[int, int]
):
    driver, standing = person(3, zoom, shift), person()
    reference = PoseSequence(standing.keypoints, standing.scores, size, FPS)
    aligned = align(driver, reference, method)
    assert aligned.size == size and aligned.fps == driver.fps
    body = aligned.keypoints[:, skeleton.BODY]
    np.testing.assert_allclose(body, np.tile(STANDING, (3, 1, 1)), atol=0.05)


def test_sway_shrinks_the_published_fit_but_not_the_robust_one():
    time = np.linspace(0, 4 * np.pi, 41)
    sway = np.stack([0 * time, 0.10 * 130 * np.sin(time)], 1)
    driver = moved(person(41), sway)
    published = fit_alignment(driver, person(), "published")
    robust = fit_alignment(driver, person(), "robust")
    assert published.scale[1] < 0.96
    assert robust.scale == pytest.approx((1, 1), abs=1e-5)
    assert robust.offset == pytest.approx((0, 0), abs=1e-3)


def test_a_dancer_on_the_head_keeps_a_positive_scale():
    upright = person(5)
    flipped = upright.keypoints.copy()
    flipped[..., 1] = 130 - flipped[..., 1]
    driver = PoseSequence(flipped, upright.scores, upright.size, FPS)
    published = fit_alignment(driver, person(), "published")
    assert published.scale[1] < 0 and "turns the skeleton over" in published.note
    robust = fit_alignment(driver, person(), "robust")
    assert robust.scale == pytest.approx((1, 1), abs=1e-5) and not robust.note


def test_outliers_hardly_move_the_robust_fit():
    driver = person(20)
    wild = driver.keypoints.copy()
    wild[::5] += 400
    wild[:, 13] += 60
    fit = fit_alignment(PoseSequence(wild, driver.scores, driver.size, FPS), person(), "robust")
    assert fit.scale == pytest.approx((1, 1), abs=0.03)
    assert fit.offset == pytest.approx((0, 0), abs=0.03)


def test_empty_frames_do_not_enter_a_fit():
    driver = person(4)
    points, scores = driver.keypoints.copy(), driver.scores.copy()
    points[2], scores[2] = 0, 0
    gappy = PoseSequence(points, scores, driver.size, FPS)
    for method in ("published", "robust"):
        assert fit_alignment(gappy, person(), method).scale == pytest.approx((1, 1), abs=1e-4)


def test_joints_outside_the_frame_do_not_enter_a_fit():
    driver = person(4)
    points, scores = driver.keypoints.copy(), driver.scores.copy()
    points[1:, 13:17], scores[1:, 13:17] = 0, 0
    cut = PoseSequence(points, scores, driver.size, FPS)
    for method in ("published", "robust"):
        assert fit_alignment(cut, person(), method).scale == pytest.approx((1, 1), abs=1e-4)


def test_guesses_outside_the_frame_do_not_enter_the_robust_fit():
    driver = person(4)
    points = driver.keypoints.copy()
    points[:, 13:17] += (0, 200)
    far = PoseSequence(points, driver.scores, driver.size, FPS)
    fit = fit_alignment(far, person(), "robust")
    assert fit.scale == pytest.approx((1, 1), abs=1e-5) and fit.offset == pytest.approx((0, 0), abs=1e-4)
    assert fit_alignment(person(4), far[:1], "robust").scale == pytest.approx((1, 1), abs=1e-5)


WHOLE = Framing(zoom=0.9, centre=0.5, floor=0.9, pitch=0.1)


def projected(seed: int, motion: Motion, frames: int, zoom: float = 1) -> tuple[PoseSequence, float]:
    """A drawn dancer's true keypoints, wholly visible, and the pixels of the dancer's height."""
    body, size = make_character(seed).proportions, (576, 1024)
    lens = camera(body, replace(WHOLE, zoom=zoom * WHOLE.zoom), *size)
    moments = [lens(joints_133(bones(body, motion.pose(i)), body.head))[:, :2] for i in range(frames)]
    return PoseSequence(np.stack(moments), np.ones((frames, 133)), size, FPS), lens.scale


def cut_at(pose: PoseSequence, where: str) -> PoseSequence:
    """A still of one frame without what is below knees, waist or chest."""
    points = pose.keypoints[0]
    shoulders, hips, knees = (points[joints, 1].mean() for joints in ([5, 6], [11, 12], [13, 14]))
    bottom = {
        "feet": 2000.0,
        "knees": knees - 10,
        "waist": hips - 15,
        "chest": shoulders + 0.45 * (hips - shoulders),
    }[where]
    scores = pose.scores * (pose.keypoints[..., 1] < bottom)
    return PoseSequence(pose.keypoints, scores, pose.size, FPS)


MOTIONS = (16, 1, 2, 4, 5, 6, 20, 21)


@pytest.mark.parametrize("seed", [21, 37, 7, 11, 12, 50])
@pytest.mark.parametrize("where", ["feet", "knees", "waist", "chest"])
def test_a_dancer_is_as_large_as_a_reference_that_is_cut(seed: int, where: str):
    """The same character, smaller, drives: its size in the reference is known."""
    still, wanted = projected(seed, reference_pose(seed), 1)
    off, by_limbs = [], []
    for motion in MOTIONS:
        driver, scale = projected(seed, make_motion(motion, Fraction(15)), 45, zoom=0.8)
        fit = fit_alignment(driver, cut_at(still, where), "robust")
        off.append(fit.scale[1] * scale / wanted - 1)
        limbs = fit_alignment(driver, cut_at(still, where), "limbs")
        by_limbs.append([limbs.zoom, np.median(list(limbs.ratios.values()))])
    assert np.abs(off).max() < 0.03
    assert np.abs(np.array(by_limbs) * scale / wanted - 1).max() < 0.035


def test_too_few_joints_fall_back_and_say_so():
    reference = person()
    scores = np.zeros_like(reference.scores)
    scores[:, [0, 5]] = 1
    hidden = PoseSequence(reference.keypoints, scores, reference.size, FPS)
    fit = fit_alignment(person(3), hidden, "robust")
    assert fit.method == "none" and "only 2 joints" in fit.note
    assert fit.scale == pytest.approx((1, 1))
    unseen = PoseSequence(reference.keypoints, 0 * scores, reference.size, FPS)
    with pytest.raises(PoseError, match="use the alignment robust or none"):
        fit_alignment(person(3), unseen, "published")


@pytest.mark.parametrize("flat", ["driver", "reference"])
def test_joints_at_one_height_give_no_scale_and_say_so(flat: str):
    """Two shoulders alone: the least squares have no answer."""
    poses = {"driver": person(3), "reference": person()}
    for name, pose in poses.items():
        points, scores = pose.keypoints.copy(), np.zeros_like(pose.scores)
        scores[:, [5, 6]] = 1
        points[:, 6, 1] += 0 if name == flat else 3
        poses[name] = PoseSequence(points, scores, pose.size, FPS)
    with pytest.raises(PoseError, match=r"at different heights.*use the alignment robust or none"):
        fit_alignment(poses["driver"], poses["reference"], "published")


def test_unseen_keypoints_stay_where_they_are():
    driver = person(2)
    points, scores = driver.keypoints.copy(), driver.scores.copy()
    points[:, skeleton.LEFT_HAND], scores[:, skeleton.LEFT_HAND] = 0, 0
    aligned = align(PoseSequence(points, scores, driver.size, FPS), person(1, 2, (10, 20)))
    assert not aligned.keypoints[:, skeleton.LEFT_HAND].any()
    np.testing.assert_allclose(aligned.keypoints[:, 0], [[110, 50]] * 2, atol=1e-3)


def test_limbs_that_do_not_match_are_reported():
    reference = person()
    points = reference.keypoints.copy()
    points[:, [7, 8, 9, 10, 13, 14, 15, 16]] = points[:, [5, 6, 5, 6, 11, 12, 11, 12]] + 0.5
    stumpy = PoseSequence(points, reference.scores, reference.size, FPS)
    fit = fit_alignment(person(3), stumpy, "robust")
    assert "times as long" in fit.note


@pytest.mark.parametrize(
    ("target", "corners"), [((200, 260), (0, 0, 200, 260)), ((200, 130), (50, 0, 150, 130))]
)
def test_none_keeps_the_aspect_and_the_whole_frame(target: tuple[int, int], corners: tuple[int, ...]):
    driver = person()
    points = driver.keypoints.copy()
    points[0, :2] = [[0, 0], [100, 130]]
    framed = PoseSequence(points, driver.scores, driver.size, FPS)
    nobody = PoseSequence(np.zeros((1, 133, 2)), np.zeros((1, 133)), target, FPS)
    aligned = align(framed, nobody, "none")
    np.testing.assert_allclose(aligned.keypoints[0, :2].ravel(), corners)


@pytest.mark.parametrize("target", [(72, 128), (96, 64), (64, 64)])
def test_keypoints_follow_their_picture_through_the_crop(target: tuple[int, int]):
    picture = np.zeros((150, 100, 3), np.uint8)
    picture[70:80, 40:50] = 255
    covered = fit_cover(picture, *target)
    rows, columns = np.nonzero(covered[..., 0] > 127)
    points = np.zeros((1, 133, 2))
    points[0, 0] = (45, 75)
    moved = placed_alignment(centre_crop((100, 150), target)).apply(
        PoseSequence(points, np.ones((1, 133)), (100, 150), FPS)
    )
    expected = (columns.mean() + 0.5, rows.mean() + 0.5)
    np.testing.assert_allclose(moved.keypoints[0, 0], expected, atol=0.51)


def test_a_picture_of_the_right_size_moves_no_keypoint():
    assert placed_alignment(centre_crop((88, 200), (88, 200))).scale == (1, 1)


def test_unknown_method_names_the_known_ones():
    with pytest.raises(PoseError, match=", ".join(ALIGNMENTS)):
        align(person(), person(), "best")


def test_weighted_median():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0])) == 2
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([9.0, 0.5, 0.5])) == pytest.approx(
        2.89, abs=0.01
    )
    assert weighted_median(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == 2
    assert weighted_median(np.array([4.0]), np.array([0.1])) == 4
