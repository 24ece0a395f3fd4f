"""The measures of a pose estimator: the truth is found everywhere, each fault shows in its own figure."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from posedance.pipeline.config import EstimatorConfig
from posedance.pipeline.evaluate.pose import (
    EvaluatePoseConfig,
    drawn_frames,
    estimators,
    evaluate_pose,
    table_of,
)
from posedance.pipeline.evaluate.pose_figures import GROUPS, Case, figures_of, of_stills
from posedance.pipeline.evaluate.pose_pictures import ENLARGED, look_at, read_people
from posedance.stages.errors import ConfigError, PoseError
from posedance.stages.pose.base import Detections
from posedance.stages.pose.estimators import ESTIMATORS, why_unusable
from posedance.stages.types import PoseSequence

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples" / "coco_wholebody"
FRAMES, HEIGHT = 40, 100.0


def case(shift: float = 0, noise: float = 0, late: float = 0) -> Case:
    """A figure whose every point swings; found with a shift and noise in per cent, so many frames late."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 100, (133, 2))
    ways = rng.uniform(5, 20, (133, 2))

    def points(late: float) -> np.ndarray:
        return places + ways * np.sin((np.arange(FRAMES) - late)[:, None, None] / 4)

    scores = np.ones((FRAMES, 133))
    found = points(late) + (shift, 0) + rng.normal(0, 1, (FRAMES, 133, 2)) * noise
    sequences = (PoseSequence(values, scores, (100, 100), Fraction(30)) for values in (found, points(0)))
    return Case(*sequences, HEIGHT, scores > 0)


def with_scores(one: Case, scores: np.ndarray) -> Case:
    return replace(one, found=PoseSequence(one.found.keypoints, scores, (100, 100), Fraction(30)))


def test_the_truth_is_found_everywhere():
    figures = figures_of([case()])
    assert {figures[name] for name in ("body_pck_05", "body_pck_10", "hands_pck")} == {1}
    for name in GROUPS:
        assert figures[f"{name}_found_percent"] == 100
        for what in ("error_percent", "jitter_percent", "lag_frames"):
            assert figures[f"{name}_{what}"] == pytest.approx(0, abs=1e-5)
    assert figures["wrist_at_speed_percent"] == pytest.approx(0, abs=1e-5)


def test_what_is_off_is_no_jitter_and_no_lag():
    figures = figures_of([case(shift=7)])
    assert figures["body_pck_05"] == 0 and figures["body_pck_10"] == 1
    assert figures["body_error_percent"] == pytest.approx(7, rel=1e-4)
    assert figures["wrist_at_speed_percent"] == pytest.approx(7, rel=1e-4)
    assert figures["body_jitter_percent"] == pytest.approx(0, abs=1e-4)


def test_jitter_is_that_of_the_noise():
    figures = figures_of([case(noise=0.5)])
    of_two = 0.5 * np.sqrt(np.pi / 2)  # the mean length of a vector of two such values
    for name in GROUPS:
        assert figures[f"{name}_jitter_percent"] == pytest.approx(of_two, rel=0.1)


@pytest.mark.parametrize("late", [-0.5, 0.3, 1.2])
def test_lag_is_told_between_frames(late: float):
    figures = figures_of([case(late=late, noise=0.2, shift=1)])
    for name in GROUPS:
        assert figures[f"{name}_lag_frames"] == pytest.approx(late, abs=0.06)
    assert (figures["wrist_at_speed_percent"] or 0) > 1


def test_what_is_missing_is_wrong_and_not_found():
    scores = np.ones((FRAMES, 133))
    scores[: FRAMES // 2, 91:112] = 0
    figures = figures_of([with_scores(case(), scores)])
    assert figures["hands_found_percent"] == 75 and figures["hands_pck"] == 0.75
    assert figures["hands_error_percent"] == pytest.approx(0, abs=1e-5)
    assert figures["body_found_percent"] == 100


def test_what_is_filled_in_counts_for_presence_alone():
    one = case()
    points, compared = one.found.keypoints.copy(), one.compared.copy()
    points[10:15, 91:112] += (30, -30)
    compared[10:15, 91:112] = False
    filled = replace(one, found=replace(one.found, keypoints=points), compared=compared)
    assert figures_of([filled])["hands_jitter_percent"] == pytest.approx(0, abs=1e-4)
    assert (figures_of([replace(filled, compared=one.compared)])["hands_jitter_percent"] or 0) > 0.1
    assert (figures_of([filled])["hands_pck"] or 1) < 1


def test_what_nothing_tells_is_none_and_a_dash():
    still = case()
    one = Case(still.found[:1], still.truth[:1], HEIGHT, still.compared[:1])
    figures = figures_of([one])
    assert figures["body_jitter_percent"] is None and figures["body_lag_frames"] is None
    assert figures["wrist_at_speed_percent"] is None
    assert of_stills(figures).keys() >= {"body_pck_10", "hands_pck", "face_found_percent"}
    assert None not in of_stills(figures).values()
    lines = list(table_of({"clips": 1, "estimators": {"own": {"found": figures}}, "unusable": {"b": "why"}}))
    assert any(line.split() == ["body_lag_frames", "-"] for line in lines)
    assert lines[-1] == "not measured: b, why"


def test_an_estimator_that_is_named_is_measured_alone():
    named, unusable = estimators(EstimatorConfig(name="dwpose"))
    assert [one.name for one in named] == ["dwpose"] and not unusable
    every, unusable = estimators(EstimatorConfig(min_score=0.2))
    assert {one.name for one in every} | unusable.keys() == ESTIMATORS.keys()
    assert all(one.min_score == 0.2 for one in every)


def test_drawn_frames_tell_the_truth():
    known: list[tuple[np.ndarray, np.ndarray]] = []
    frames = list(drawn_frames(EvaluatePoseConfig(frames=2, width=72, height=128), 0, known))
    assert [frame.shape for frame in frames] == [(128, 72, 3)] * 2
    assert all(points.shape == (133, 2) and (scores >= 1).any() for points, scores in known)


class Fixed:
    """An estimator that finds the same person in every picture."""

    def __init__(self, keypoints: np.ndarray) -> None:
        self.keypoints, self.shape = keypoints, (0, 0)

    def missing(self) -> str | None:
        return None

    def setup(self) -> None: ...

    def start(self, *, static: bool = False) -> None: ...

    def __call__(self, frames: list[np.ndarray]) -> list[Detections]:
        self.shape = frames[0].shape[:2]
        return [Detections(self.keypoints[None], np.ones((1, 133), np.float32))]

    def close(self) -> None: ...


def annotated(folder: Path, **changes: object) -> Path:
    """Two people in a picture of 60x80, one of whom has few keypoints, and a crowd."""
    cv2.imwrite(str(folder / "a.png"), np.zeros((80, 60, 3), np.uint8))
    counts = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
    parts = {name: [20 + count % 7, 30, 2] * count for name, count in counts.items()}
    whole = {"image_id": 5, "bbox": [10, 20, 20, 40], "iscrowd": 0, **parts, **changes}
    few = whole | {"keypoints": [1, 1, 2] * 8 + [0, 0, 0] * 9}
    data = {"images": [{"id": 5, "file_name": "a.png"}], "annotations": [whole, few, whole | {"iscrowd": 1}]}
    (folder / "truth.json").write_text(json.dumps(data))
    return folder / "truth.json"


def test_a_person_of_a_picture_is_cut_out_enlarged_and_measured_in_their_height(tmp_path: Path):
    people, left_out = read_people(annotated(tmp_path), tmp_path)
    assert len(people) == 1 and left_out == 2
    truth = (people[0].truth[:, :2] - (6, 12)) * ENLARGED  # 20 % around the box: from 6, 12 to 34, 68
    estimator = Fixed((truth + np.array((0, 0.07 * 40 * ENLARGED))).astype(np.float32))
    figures = of_stills(figures_of([look_at(people[0], estimator)]))
    assert estimator.shape == (56 * ENLARGED, 28 * ENLARGED)
    assert figures["body_pck_05"] == 0 and figures["body_pck_10"] == 1
    assert figures["body_error_percent"] == pytest.approx(7, rel=1e-3)


@pytest.mark.parametrize("changes", [{"bbox": "x"}, {"foot_kpts": []}, {"image_id": 6}])
def test_annotations_of_another_layout_are_told_in_one_line(tmp_path: Path, changes: dict[str, object]):
    with pytest.raises(PoseError, match=r"truth\.json are not in COCO-WholeBody's layout"):
        read_people(annotated(tmp_path, **changes), tmp_path)


def test_missing_files_are_told_in_one_line(tmp_path: Path):
    with pytest.raises(PoseError, match=r"none\.json cannot be read"):
        read_people(tmp_path / "none.json", tmp_path)
    with pytest.raises(PoseError, match=r"no picture .*a\.png: check --images"):
        read_people(annotated(tmp_path), tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="go together"):
        evaluate_pose(EvaluatePoseConfig(images=tmp_path))


@pytest.mark.slow
def test_mediapipe_is_measured(tmp_path: Path):
    if (reason := why_unusable("mediapipe")) is not None:
        pytest.skip(reason)
    mediapipe = EstimatorConfig(name="mediapipe")
    config = EvaluatePoseConfig(
        estimator=mediapipe, clips=1, frames=12, width=288, height=512, json_file=tmp_path / "a/pose.json"
    )
    figures = evaluate_pose(config)
    found, steady = (figures["estimators"]["mediapipe"][name] for name in ("found", "steady"))
    assert found["body_found_percent"] == 100 and found["body_error_percent"] < 1.5
    assert steady["face_jitter_percent"] < 0.8 * found["face_jitter_percent"]
    assert json.loads((tmp_path / "a/pose.json").read_text()) == figures


@pytest.mark.slow
def test_real_people_are_found():
    if not SAMPLES.is_dir():
        pytest.skip(f"there are no samples in {SAMPLES}")
    if (reason := why_unusable("mediapipe")) is not None:
        pytest.skip(reason)
    config = EvaluatePoseConfig(
        estimator=EstimatorConfig(name="mediapipe"), annotations=SAMPLES / "annotations.json", images=SAMPLES
    )
    figures = evaluate_pose(config)
    assert figures["people"] == 12
    assert figures["estimators"]["mediapipe"]["found"]["body_pck_10"] > 0.8
