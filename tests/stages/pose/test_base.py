"""What every row of ESTIMATORS keeps to. Rows that cannot run here are skipped and say why."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from posedance.datasets.puppets.render import PuppetFrame, make_character, reference_pose, render
from posedance.stages.errors import PoseError
from posedance.stages.pose import skeleton
from posedance.stages.pose.base import FAR_OUTSIDE, PoseEstimator
from posedance.stages.pose.estimators import ESTIMATORS, make_estimator, why_unusable
from posedance.stages.pose.follow.people import person_score

WIDTH, HEIGHT = 288, 512


@pytest.fixture(scope="module", params=list(ESTIMATORS))
def estimator(request: pytest.FixtureRequest) -> Iterator[PoseEstimator]:
    reason = why_unusable(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    made = make_estimator(request.param)
    made.setup()
    yield made
    made.close()


DANCER = 37
"""Seed of a drawn dancer whose hands and face every estimator finds."""


@pytest.fixture(scope="module")
def dancer() -> PuppetFrame:
    return render(make_character(DANCER), reference_pose(DANCER), 0, WIDTH, HEIGHT)


def test_empty_frames_hold_nobody(estimator: PoseEstimator):
    estimator.start()
    found = estimator([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 2)
    assert [len(people) for people in found] == [0, 0]
    assert found[0].keypoints.shape == (0, 133, 2) and found[0].scores.shape == (0, 133)


def test_a_drawn_dancer_is_found_where_she_stands(estimator: PoseEstimator, dancer: PuppetFrame):
    estimator.start(static=True)
    people = estimator([dancer.image])[0]
    assert len(people) == 1
    points, scores = people.keypoints[0], people.scores[0]
    assert points.dtype == scores.dtype == np.float32
    assert person_score(scores) > 0.6 and scores.min() >= 0 and scores.max() <= 1
    assert not points[scores == 0].any()
    away = np.linalg.norm(points - dancer.keypoints, axis=-1) / HEIGHT
    assert away[skeleton.BODY].max() < 0.03
    for part in (skeleton.FEET, skeleton.FACE, skeleton.LEFT_HAND, skeleton.RIGHT_HAND):
        assert (scores[part] > 0.5).all()
        assert away[part].max() < 0.06


def test_feet_below_the_frame_keep_their_place(estimator: PoseEstimator, dancer: PuppetFrame):
    """The dancer cut through the ankles: what an estimator guesses outside stays, near where it is."""
    ankles = slice(15, 17)
    cut = int(dancer.keypoints[ankles, 1].min()) - 6
    estimator.start(static=True)
    people = estimator([dancer.image[:cut]])[0]
    points, scores = people.keypoints[0], people.scores[0]
    assert (scores[ankles] > skeleton.VISIBLE).all()
    away = np.linalg.norm(points[ankles] - dancer.keypoints[ankles], axis=-1)
    assert away.max() < 0.08 * np.ptp(dancer.keypoints[:, 1])


def test_no_keypoint_is_far_outside_the_frame(estimator: PoseEstimator, dancer: PuppetFrame):
    estimator.start(static=True)
    for bottom in (500, 350, 250):
        for keypoints in estimator([dancer.image[:bottom]])[0].keypoints:
            margin = FAR_OUTSIDE * max(WIDTH, bottom)
            assert (keypoints >= -margin).all() and (keypoints < np.add((WIDTH, bottom), margin)).all()


def test_a_new_video_starts_without_a_trace_of_the_last(estimator: PoseEstimator, dancer: PuppetFrame):
    video = [np.roll(dancer.image, shift, axis=1) for shift in (0, 4, 8)]
    estimator.start()
    first = estimator(video)
    estimator.start()
    estimator([np.roll(dancer.image, 60, axis=0)])
    estimator.start()
    second = [*estimator(video[:1]), *estimator(video[1:])]
    for a, b in zip(first, second, strict=True):
        assert len(a) == 1
        assert np.array_equal(a.keypoints, b.keypoints) and np.array_equal(a.scores, b.scores)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_estimators_travel_to_workers_before_setup(name: str):
    made = pickle.loads(pickle.dumps(make_estimator(name)))
    assert made.missing() == why_unusable(name)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_missing_model_file_is_named(name: str, tmp_path: Path):
    model = tmp_path / "none.model"
    reason = why_unusable(name, model=model)
    assert reason is not None and str(model) in reason
    with pytest.raises(PoseError, match=f"pose estimator {name} cannot be used: .*none.model"):
        make_estimator(name, model=model).setup()


def test_unknown_estimator_names_the_known_ones():
    with pytest.raises(PoseError, match=", ".join(ESTIMATORS)):
        make_estimator("openpose")
