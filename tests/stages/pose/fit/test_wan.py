"""Wan-Animate's retargeting: the recorded fits, and what is carried along that Wan does not draw."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.pose.fit.align import align, fit_alignment
from posedance.stages.pose.fit.wan import align_wan, body20
from posedance.stages.pose.skeleton import FACE, LEFT_HAND, RIGHT_HAND
from posedance.stages.types import PoseSequence


def sequence(keypoints: np.ndarray, size: np.ndarray | list[int]) -> PoseSequence:
    """Recorded keypoints [T, 133, 3] of x, y and score."""
    width, height = (int(side) for side in size)
    return PoseSequence(keypoints[..., :2], keypoints[..., 2], (width, height), Fraction(25))


def recorded(golden: Path) -> tuple[PoseSequence, PoseSequence, dict[str, np.ndarray]]:
    """Driver, reference, and what was recorded of their fit."""
    with np.load(golden / "wan_animate_pose" / "case.npz") as case:
        arrays = dict(case)
    driver = sequence(arrays["driver_keypoints133"], arrays["driver_size"])
    return driver, sequence(arrays["reference_keypoints133"][None], arrays["reference_size"]), arrays


def test_golden_wan_retargeting(golden: Path) -> None:
    driver, reference, arrays = recorded(golden)
    fitted = align(driver, reference, "wan")
    wanted = arrays["retargeted_body"]
    body = body20(fitted.keypoints, fitted.scores)
    seen = wanted[..., 2] > 0
    np.testing.assert_allclose(body[seen][:, :2], wanted[seen][:, :2], rtol=0, atol=1e-4)
    np.testing.assert_allclose(body[..., 2], wanted[..., 2], atol=1e-6)
    # the published code names them as the viewer sees them: its left hand is that at the dancer's right wrist
    for hand, name in ((RIGHT_HAND, "retargeted_left_hand"), (LEFT_HAND, "retargeted_right_hand")):
        kept = np.isfinite(arrays[name][..., 0])
        np.testing.assert_array_equal(fitted.scores[:, hand] > 0, kept)
        np.testing.assert_array_equal(fitted.keypoints[:, hand][kept], arrays[name][..., :2][kept])


@pytest.mark.parametrize(
    "name",
    [
        "same_size",
        "small_reference",
        "first_frame_arms_up",
        "driver_hides_points",
        "small_driver",
        "no_neck_reference",
    ],
)
def test_golden_wan_retargeting_of_other_sizes_and_guessed_joints(golden: Path, name: str) -> None:
    folder = golden / "wan_animate"
    told = {each["name"]: each for each in json.loads((folder / "meta.json").read_text())["retarget"]}[name]
    with np.load(folder / "cases.npz") as cases:

        def pose(number: int, size: list[int]) -> np.ndarray:
            fractions = cases[f"pose{number}_480x832_keypoints133"] / (480, 832, 1)
            return fractions * (*size, 1)

        driver = sequence(
            np.stack([pose(i, told["driver_size"]) for i in told["driver_poses"]]), told["driver_size"]
        )
        still = pose(told["reference_pose"], told["reference_size"])
        reference = sequence(still[None], told["reference_size"])
        fit = align_wan(driver, reference)
        before = body20(driver.keypoints, driver.scores)
        after, wanted = fit.body(before), cases[f"retarget_{name}_body20"]
        seen = wanted[..., 2] > 0
        # float32 pixels come in, and are up to ten times as far out of the picture afterwards
        np.testing.assert_allclose(after[seen], wanted[seen], rtol=1e-6, atol=1e-4)
        left, right = fit.hands(driver, before, after)
        np.testing.assert_array_equal(right, cases[f"retarget_{name}_left_hand"][..., :2])
        np.testing.assert_array_equal(left, cases[f"retarget_{name}_right_hand"][..., :2])


def test_wan_carries_the_face_with_the_head_and_stays_finite(golden: Path) -> None:
    driver, reference, _ = recorded(golden)
    fitted = align(driver, reference, "wan")
    assert fitted.size == reference.size and len(fitted) == len(driver)
    eyes = (1, 2)
    ratio = np.linalg.norm(
        fitted.keypoints[:, eyes[0]] - fitted.keypoints[:, eyes[1]], axis=-1
    ) / np.linalg.norm(driver.keypoints[:, eyes[0]] - driver.keypoints[:, eyes[1]], axis=-1)
    widths = [np.ptp(poses.keypoints[:, FACE, 0], axis=1) for poses in (fitted, driver)]
    np.testing.assert_allclose(widths[0] / widths[1], ratio, rtol=0.1)


def test_a_dancer_who_lies_has_no_height_for_wan() -> None:
    points = np.tile(np.stack([np.arange(133.0), np.full(133, 40.0)], 1), (2, 1, 1))
    lying = PoseSequence(points, np.ones((2, 133)), (200, 100), Fraction(25))
    with pytest.raises(PoseError, match=r"no height here: use limbs or robust"):
        fit_alignment(lying, lying, "wan")
