"""Fitting bone by bone: lengths, ground, head, hidden and foreshortened limbs, frames that lack joints."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.datasets.puppets.camera import camera
from posedance.datasets.puppets.character import Proportions
from posedance.datasets.puppets.motion import Motion
from posedance.datasets.puppets.render import Framing, make_character, make_motion, reference_pose
from posedance.datasets.puppets.skeleton import joints_133
from posedance.datasets.puppets.skeleton import skeleton as bones
from posedance.stages.pose.fit.align import align, fit_alignment
from posedance.stages.pose.fit.limbs import LimbFit, align_limbs
from posedance.stages.pose.fit.proportions import AVERAGE, LIMBS, unshortened
from posedance.stages.pose.skeleton import FACE, LEFT_HAND, RIGHT_HAND
from posedance.stages.types import PoseSequence

SIZE = (400, 600)
STANDING = {
    "trunk": -90, "neck": -90, "left upper arm": 60, "right upper arm": 120, "left forearm": 70,
    "right forearm": 110, "left thigh": 85, "right thigh": 95, "left shin": 88, "right shin": 92,
    "left hand": 75, "right hand": 105,
}  # fmt: skip
"""Where each bone points in a standing body, in degrees, y down: an adult of average proportions."""
AVERAGES = {name: AVERAGE[name.removeprefix("left ").removeprefix("right ")] for name in LIMBS}


def body(
    lengths: dict[str, float], angles: dict[str, float], at: tuple[float, float] = (200, 300)
) -> np.ndarray:
    """133 points of a body whose hips' middle lies `at`, its bones in pixels and in degrees."""

    def bone(name: str) -> np.ndarray:
        angle = np.radians(angles[name])
        return lengths[name] * np.array([np.cos(angle), np.sin(angle)])

    points = np.zeros((133, 2))
    hips = np.array(at, float)
    neck = hips + bone("trunk")
    points[0] = neck + bone("neck")
    head = lengths["head"] * np.array([[0.3, -0.3], [-0.3, -0.3], [0.6, -0.2], [-0.6, -0.2]])
    points[1:5] = points[0] + head
    turns = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[FACE] = points[0] + 0.6 * lengths["head"] * np.stack([np.cos(turns), np.sin(turns)], 1)
    for side, sign, arm, leg in (
        ("left", 1, (5, 7, 9), (11, 13, 15)),
        ("right", -1, (6, 8, 10), (12, 14, 16)),
    ):
        points[arm[0]] = neck + np.array([sign * lengths["shoulders"] / 2, 0])
        points[leg[0]] = hips + np.array([sign * lengths["hips"] / 2, 0])
        for part, joints in (
            ("upper arm", arm[:2]),
            ("forearm", arm[1:]),
            ("thigh", leg[:2]),
            ("shin", leg[1:]),
        ):
            points[joints[1]] = points[joints[0]] + bone(f"{side} {part}")
        hand = LEFT_HAND if side == "left" else RIGHT_HAND
        points[hand] = points[arm[2]] + np.linspace(0, 20 / 9, 21)[:, None] * bone(f"{side} hand")
        feet = slice(17, 20) if side == "left" else slice(20, 23)
        points[feet] = points[leg[2]] + np.array([[4, 8], [8, 7], [-2, 9]])
    return points


def adult(height: float = 400, **factors: float) -> dict[str, float]:
    """Lengths in pixels of an average body, parts ("arm" stands for both bones of both) made longer."""
    lengths = {name: height * part for name, part in AVERAGES.items()} | {"head": 0.09 * height}
    for part, factor in factors.items():
        lengths |= {name: factor * lengths[name] for name in lengths if part.replace("_", " ") in name}
    return lengths


def sequence(points: np.ndarray) -> PoseSequence:
    """All of it seen."""
    return PoseSequence(points, np.ones(points.shape[:2]), SIZE, Fraction(25))


def dance(lengths: dict[str, float], frames: int = 40, seed: int = 0, jump: float = 0) -> PoseSequence:
    """Bones swing and point at the camera now and then; the lower foot stays on y = 500 but for jumps."""
    rng = np.random.default_rng(seed)
    moments = []
    for _ in range(frames):
        angles = {name: angle + rng.normal(0, 25) for name, angle in STANDING.items()}
        foreshortened = {name: length * rng.choice([1, 1, 0.7]) for name, length in lengths.items()}
        foreshortened |= {name: lengths[name] for name in ("trunk", "neck", "head", "shoulders", "hips")}
        points = body(foreshortened, angles, (200 + rng.normal(0, 20), 0))
        points[:, 1] += 500 - points[15:23, 1].max() - jump * rng.uniform()
        moments.append(points)
    return sequence(np.stack(moments))


def still(lengths: dict[str, float], at: tuple[float, float] = (200, 300)) -> PoseSequence:
    """The picture of a character who stands."""
    return sequence(body(lengths, STANDING, at)[None])


def hidden(poses: PoseSequence, points: list[int], frames: slice = slice(None)) -> PoseSequence:
    """The same where `points` are not seen."""
    scores = poses.scores.copy()
    scores[frames, points] = 0
    return PoseSequence(poses.keypoints, scores, poses.size, poses.fps)


def limb_fit(driver: PoseSequence, reference: PoseSequence) -> LimbFit:
    """The fit, which did not fall back."""
    fit = align_limbs(driver, reference)
    assert isinstance(fit, LimbFit)
    return fit


part = st.floats(0.65, 1.5)


@given(part, part, part, st.floats(0.5, 2.5), st.floats(0.4, 3), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_every_limb_has_the_characters_length_and_the_dancers_direction(
    arms: float, legs: float, trunk: float, head: float, size: float, seed: int
) -> None:
    """A baby, a giant, long arms: arms and legs as long as the character's, seen from the side."""
    factors = {"arm": arms, "hand": arms, "thigh": legs, "shin": legs, "trunk": trunk, "head": head}
    driver, own = dance(adult(), seed=seed), still(adult(400 * size, **factors), (1500, 1500))
    own = PoseSequence(own.keypoints, own.scores, (3000, 3000), own.fps)
    fitted = align(driver, own, "limbs")
    for name, (a, b) in LIMBS.items():
        if max(a, b) > 132:
            continue
        ours, before, theirs = (each.keypoints[:, b] - each.keypoints[:, a] for each in (fitted, driver, own))
        full = np.quantile(np.linalg.norm(ours, axis=-1), 0.9)
        assert full == pytest.approx(np.linalg.norm(theirs[0]), rel=0.03), name
        cross = ours[:, 0] * before[:, 1] - ours[:, 1] * before[:, 0]
        assert np.abs(cross).max() < 1e-2 * full * np.linalg.norm(before, axis=-1).max(), name


@given(st.floats(0.3, 3), st.tuples(st.floats(0, 300), st.floats(0, 300)))
@settings(max_examples=15, deadline=None)
def test_where_and_how_large_the_dancer_is_filmed_changes_nothing(
    zoom: float, shift: tuple[float, float]
) -> None:
    driver, own = dance(adult(), 12), still(adult(arm=1.2))
    moved = PoseSequence(driver.keypoints * zoom + shift, driver.scores, (4000, 4000), driver.fps)
    wide = PoseSequence(driver.keypoints, driver.scores, (4000, 4000), driver.fps)
    expected = align(wide, own, "limbs").keypoints
    np.testing.assert_allclose(align(moved, own, "limbs").keypoints, expected, atol=0.1)


def test_the_character_that_drives_itself_stays_as_it_is() -> None:
    own = still(adult(arm=1.3, head=1.5))
    fit = limb_fit(own, own)
    np.testing.assert_allclose(fit.apply(own).keypoints, own.keypoints, atol=1e-3)
    assert not fit.note and all(ratio == pytest.approx(1, abs=1e-5) for ratio in fit.limbs.values())


@given(st.floats(0.5, 1.6), st.floats(0, 80), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_feet_stand_on_the_characters_ground_and_jumps_are_as_high_as_the_legs_are_long(
    legs: float, jump: float, seed: int
) -> None:
    driver, own = dance(adult(), 30, seed, jump), still(adult(thigh=legs, shin=legs, trunk=1.2))
    fit = limb_fit(driver, own)
    low = [each.keypoints[:, 15:17, 1].max(1) for each in (driver, fit.apply(driver), own)]
    ground = np.quantile(low[0], 0.9)
    np.testing.assert_allclose(low[1], low[2] - fit.zoom * (ground - low[0]), atol=0.05)
    assert fit.zoom == pytest.approx(legs, rel=0.03)


def test_a_hidden_limb_is_as_long_as_that_of_the_other_side_and_else_as_the_whole_fit() -> None:
    driver, own = dance(adult()), still(adult(arm=1.4, thigh=0.8, shin=0.8))
    one = limb_fit(driver, hidden(own, [9, *range(91, 112)]))
    assert one.ratios["left forearm"] == pytest.approx(one.ratios["right forearm"], rel=0.03)
    bust = limb_fit(driver, hidden(still(adult()), [*range(7, 23), *range(91, 133)]))
    assert bust.ratios["left thigh"] == bust.zoom == pytest.approx(1, rel=0.03)
    assert np.isfinite(bust.apply(driver).keypoints).all() and not bust.feet


def test_limbs_that_point_at_the_camera_in_the_picture_are_not_taken_for_short_ones() -> None:
    """Folded arms: both forearms are seen at 0.4 of their length; one thigh, of someone who sits, at 0.3."""
    folded = adult()
    folded |= {name: 0.4 * folded[name] for name in folded if "forearm" in name}
    folded["left thigh"] *= 0.3
    fit = limb_fit(dance(adult()), still(folded))
    for name in ("left forearm", "right forearm", "left thigh"):
        assert fit.ratios[name] == pytest.approx(1, rel=0.05), name
        assert name in fit.note and fit.limbs[name] > 2
    assert "camera in its picture" in fit.note


def test_limbs_that_point_at_the_camera_throughout_the_dance_are_not_drawn_out() -> None:
    lengths = adult()
    driver = dance(lengths | {name: 0.4 * lengths[name] for name in lengths if "forearm" in name})
    fit = limb_fit(driver, still(adult()))
    assert fit.ratios["left forearm"] == pytest.approx(1, rel=0.05)
    assert "camera in the dance" in fit.note and "left forearm 0.40" in fit.note


def test_short_arms_on_both_sides_are_short_arms() -> None:
    lengths, changed = unshortened(adult(arm=0.5))
    assert not changed and lengths["left forearm"] == pytest.approx(adult()["left forearm"] / 2)


def test_a_head_keeps_its_shape_and_a_character_without_a_face_gets_none() -> None:
    driver, own = dance(adult(), 10), still(adult(head=2))
    fitted = align(driver, own, "limbs")
    for point in (1, 3, 30, 60):
        away = [each.keypoints[:, point] - each.keypoints[:, 0] for each in (fitted, driver)]
        np.testing.assert_allclose(away[0], 2 * away[1], rtol=1e-3, atol=1e-2)
    fit = limb_fit(driver, hidden(own, [*range(23, 91)]))
    faceless = fit.apply(driver)
    assert not faceless.scores[:, FACE].any() and "no face" in fit.note
    np.testing.assert_array_equal(faceless.scores[:, :23], driver.scores[:, :23])


@pytest.mark.parametrize(
    "gone", [[11, 12], [5, 6], [11, 12, 13, 14, 15, 16, *range(17, 23)], [0], [5, 6, 11, 12], [13, 14]]
)
def test_a_dancer_does_not_jump_where_joints_are_lost_for_some_frames(gone: list[int]) -> None:
    own, angles = still(adult(arm=1.2, trunk=0.8, shin=1.2)), dict(STANDING)
    moments = []
    for frame in range(30):
        angles["left upper arm"] = 60 + frame
        angles["trunk"] = 3 * frame - 90
        moments.append(body(adult(), angles, (150 + 3 * frame, 300)))
    driver = sequence(np.stack(moments))
    whole = align(driver, own, "limbs").keypoints
    lost = align(hidden(driver, gone, slice(10, 20)), own, "limbs").keypoints
    kept = [j for j in range(23) if j not in gone]
    np.testing.assert_allclose(lost[:, kept], whole[:, kept], atol=9)
    np.testing.assert_allclose(lost[[9, 20]], whole[[9, 20]], atol=0.5)
    trunk = [j for j in (0, 5, 6, 11, 12, 15, 16) if j not in gone]
    np.testing.assert_allclose(lost[10, trunk], whole[10, trunk], atol=2.5)


def test_frames_without_anybody_and_points_without_a_place_stay() -> None:
    driver, own = dance(adult(), 12), still(adult(arm=1.2))
    gappy = hidden(driver, list(range(133)), slice(4, 7))
    fitted = align(gappy, own, "limbs")
    np.testing.assert_array_equal(fitted.keypoints[4:7], driver.keypoints[4:7])
    assert fitted.size == own.size and fitted.fps == driver.fps and not fitted.scores[4:7].any()
    np.testing.assert_allclose(fitted.keypoints[:4], align(driver, own, "limbs").keypoints[:4], atol=4)


def test_one_frame_fits_as_it_does_among_the_others() -> None:
    driver, own = dance(adult(), 12), still(adult(arm=1.2, thigh=0.8))
    fit = limb_fit(driver, own)
    np.testing.assert_allclose(fit.apply(driver[5:6]).keypoints, fit.apply(driver).keypoints[5:6], atol=1e-3)


def test_too_little_in_common_falls_back_and_says_so() -> None:
    own = still(adult())
    fit = fit_alignment(dance(adult()), hidden(own, [j for j in range(133) if j not in (0, 5)]), "limbs")
    assert fit.method == "none" and "only 2 joints" in fit.note


def test_a_child_dances_as_it_would_itself() -> None:
    """A drawn adult drives a drawn child, whose own dance is known; one size for all is far off."""
    grown = make_character(21).proportions
    part = {name: 0.75 * getattr(grown, name) for name in ("thigh", "shin", "upper_arm", "forearm")}
    child = replace(grown, head=1.4 * grown.head, **part)

    def filmed(proportions: Proportions, motion: Motion, frames: int) -> PoseSequence:
        lens = camera(proportions, Framing(zoom=0.8, centre=0.5, floor=0.9, pitch=0.1), 576, 1024)
        moments = [joints_133(bones(proportions, motion.pose(i)), proportions.head) for i in range(frames)]
        points = np.stack([lens(moment)[:, :2] for moment in moments])
        return PoseSequence(points, np.ones((frames, 133)), (576, 1024), Fraction(15))

    motion = make_motion(5, Fraction(15))
    driver, own = filmed(grown, motion, 45), filmed(child, reference_pose(21), 1)
    truth = filmed(child, motion, 45).keypoints[:, :17]
    off = {}
    for method in ("limbs", "robust"):
        fitted = align(driver, own, method).keypoints[:, :17]
        height = np.ptp(own.keypoints[0, :, 1])
        off[method] = np.linalg.norm(fitted - truth, axis=-1).mean() / height
    assert off["limbs"] < 0.035 and off["robust"] > 1.5 * off["limbs"], off
