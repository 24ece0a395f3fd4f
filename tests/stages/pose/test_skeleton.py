"""Keypoint orders: the recorded conversion, and there and back."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from posedance.stages.pose import skeleton
from posedance.stages.pose.skeleton import from_openpose, to_openpose

COORDINATES = hnp.arrays(np.float64, (2, 133, 2), elements=st.floats(-1e4, 1e4))
SCORES = hnp.arrays(np.float32, (2, 133), elements=st.floats(0, 1, width=32))


def test_golden_openpose_conversion(golden: Path):
    with np.load(golden / "openpose_conversion" / "cases.npz") as arrays:
        suffix = "_keypoints133"
        cases = sorted(key.removesuffix(suffix) for key in arrays.files if key.endswith(suffix))
        assert cases
        for case in cases:
            points, scores = to_openpose(arrays[f"{case}_keypoints133"], arrays[f"{case}_scores133"])
            for ours, recorded in ((points, "keypoints134"), (scores, "scores134")):
                expected = arrays[f"{case}_{recorded}"]
                np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9, err_msg=case)


@given(COORDINATES, SCORES)
def test_there_and_back_is_exact(points: np.ndarray, scores: np.ndarray):
    back_points, back_scores = from_openpose(*to_openpose(points, scores))
    assert np.array_equal(back_points, points)
    assert np.array_equal(back_scores, scores.astype(np.float64))


@given(COORDINATES, SCORES)
def test_back_and_there_is_exact_but_for_the_neck(points: np.ndarray, scores: np.ndarray):
    points134 = np.insert(points, skeleton.NECK, points[:, 50], axis=1)
    scores134 = np.insert(scores, skeleton.NECK, 0.5, axis=1)
    again_points, again_scores = to_openpose(*from_openpose(points134, scores134))
    kept = np.arange(134) != skeleton.NECK
    assert np.array_equal(again_points[:, kept], points134[:, kept])
    assert np.array_equal(again_scores[:, kept], scores134[:, kept])
    shoulders = points134[:, [2, 5]]
    np.testing.assert_allclose(again_points[:, skeleton.NECK], shoulders.mean(1))


def test_parts_cover_both_layouts_once():
    coco = [skeleton.BODY, skeleton.FEET, skeleton.FACE, skeleton.LEFT_HAND, skeleton.RIGHT_HAND]
    openpose = [
        skeleton.OPENPOSE_BODY,
        skeleton.OPENPOSE_FEET,
        skeleton.OPENPOSE_FACE,
        skeleton.OPENPOSE_LEFT_HAND,
        skeleton.OPENPOSE_RIGHT_HAND,
    ]
    for parts, count in ((coco, 133), (openpose, 134)):
        assert [i for part in parts for i in range(count)[part]] == list(range(count))


def test_hand_edges_are_a_tree_from_the_wrist():
    assert len(skeleton.HAND_EDGES) == 20
    assert sorted(tip for _, tip in skeleton.HAND_EDGES) == list(range(1, 21))
    assert [tip for base, tip in skeleton.HAND_EDGES if base == 0] == [1, 5, 9, 13, 17]
