"""What every row of ESTIMATORS keeps to. Rows that cannot run here are skipped and say why."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.media.picture import fit_cover, read_picture
from posedance.stages.pose import skeleton
from posedance.stages.pose.base import ESTIMATORS, PoseEstimator, make_estimator, why_unusable
from posedance.stages.pose.track import person_score

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


@pytest.fixture(scope="module")
def picture(samples: Path) -> np.ndarray:
    return fit_cover(read_picture(samples / "ref_01.jpeg"), WIDTH, HEIGHT)


def test_empty_frames_hold_nobody(estimator: PoseEstimator):
    estimator.start()
    found = estimator([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 2)
    assert [len(people) for people in found] == [0, 0]
    assert found[0].keypoints.shape == (0, 133, 2) and found[0].scores.shape == (0, 133)


def test_person_of_a_picture_stands_where_she_stands(estimator: PoseEstimator, picture: np.ndarray):
    estimator.start(static=True)
    people = estimator([picture])[0]
    assert len(people) == 1
    points, scores = people.keypoints[0], people.scores[0]
    assert points.dtype == scores.dtype == np.float32
    assert person_score(scores) > 0.6 and scores.min() >= 0 and scores.max() <= 1
    seen = scores > 0
    assert (points[seen] > 0).all() and (points[seen] < (WIDTH, HEIGHT)).all() and not points[~seen].any()
    nose, left_shoulder, right_shoulder, left_wrist, right_wrist = points[[0, 5, 6, 9, 10]] / (WIDTH, HEIGHT)
    np.testing.assert_allclose(nose, (0.54, 0.28), atol=0.04)
    assert right_shoulder[0] < nose[0] < left_shoulder[0]
    for part, wrist in ((skeleton.LEFT_HAND, left_wrist), (skeleton.RIGHT_HAND, right_wrist)):
        assert (scores[part] > 0.5).all()
        np.testing.assert_allclose(points[part][0] / (WIDTH, HEIGHT), wrist, atol=0.05)
    face = points[skeleton.FACE] / (WIDTH, HEIGHT)
    np.testing.assert_allclose(face[30], nose, atol=0.04)
    eyes, mouth, chin = face[36:48, 1].mean(), face[48:, 1].mean(), face[8, 1]
    assert eyes < face[30, 1] < mouth < chin
    assert face[36:42, 0].mean() < face[42:48, 0].mean()


def test_a_new_video_starts_without_a_trace_of_the_last(estimator: PoseEstimator, picture: np.ndarray):
    video = [np.roll(picture, shift, axis=1) for shift in (0, 4, 8)]
    estimator.start()
    first = estimator(video)
    estimator.start()
    estimator([np.roll(picture, 60, axis=0)])
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
