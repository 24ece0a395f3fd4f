"""What is measured of results: of their frames as they pass by, and of a finished batch end to end."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import listed, small_batch

from posedance.datasets.puppets.render import make_character, make_motion, reference_pose, render
from posedance.pipeline.animate.graph import steps_of
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.evaluate.result import evaluate_result, files_of
from posedance.pipeline.evaluate.watching import Watch
from posedance.pipeline.job.evaluation import read_evaluation, write_evaluation
from posedance.pipeline.job.job import Job
from posedance.stages.errors import ConfigError
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.picture import write_png
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence

FPS = Fraction(15)
SIZE = (144, 256)


def drawn(frames: int) -> tuple[list[np.ndarray], PoseSequence]:
    """Frames of a drawn dancer, and their poses."""
    made = [render(make_character(5), make_motion(2, FPS), frame, *SIZE) for frame in range(frames)]
    keypoints, scores = np.stack([f.keypoints for f in made]), np.stack([f.scores for f in made])
    return [f.image for f in made], PoseSequence(keypoints, scores, SIZE, FPS)


def watched(frames: list[np.ndarray], poses: PoseSequence, joints: list[int]) -> dict[str, Any]:
    watch = Watch(poses, frames[0], poses[:1])
    for frame in frames:
        watch.see(frame)
    return watch.figures(joints)


def changed(frames: list[np.ndarray], by: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Frames whose colours are off by so many levels."""
    return [np.clip(frame.astype(int) + by(i), 0, 255).astype(np.uint8) for i, frame in enumerate(frames)]


def test_the_true_frames_drift_nowhere_and_each_fault_shows_in_its_own_figure() -> None:
    frames, poses = drawn(12)
    true = watched(frames, poses, [6])
    assert true["flicker"] < 4 and true["background_last"] < 0.1 and true["seam_score"] < 2  # the grain of it
    assert true["torso_last"] < 8

    shaken = [
        np.clip(frame.astype(int) + 4 * (-1) ** i, 0, 255).astype(np.uint8) for i, frame in enumerate(frames)
    ]
    assert watched(shaken, poses, [6])["flicker"] == pytest.approx(16, rel=0.2)

    warmer = [
        np.clip(frame + np.array([3.0 * i, 0, 0]), 0, 255).astype(np.uint8) for i, frame in enumerate(frames)
    ]
    told = watched(warmer, poses, [6])
    over_time = told["background_over_time"]
    assert len(over_time) == 10 and sorted(over_time) == over_time
    assert (
        told["background_first"] < 1 < 4 < told["background_last"] and told["torso_last"] > true["torso_last"]
    )

    torn = [*frames[:6], *(np.roll(frame, 40, 1) for frame in frames[6:])]
    assert watched(torn, poses, [6])["seam_score"] > 3 * true["seam_score"]


def test_a_dancer_without_a_torso_and_a_character_without_a_pose_have_no_colour_of_it() -> None:
    frames, poses = drawn(3)
    nobody = PoseSequence(poses.keypoints, poses.scores * 0, SIZE, FPS)
    told = watched(frames, nobody, [])
    assert told["torso_first"] is told["torso_last"] is None and told["seam_score"] == 1
    assert isinstance(told["background_first"], float)


def test_figures_of_another_result_are_not_told(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.record_path("result").parent.mkdir(parents=True)
    job.commit("result", "a key", [])
    write_evaluation(job, {"pck_10": 0.5})
    assert read_evaluation(tmp_path) == {"pck_10": 0.5}
    job.commit("result", "another", [])
    assert read_evaluation(tmp_path) is None


def test_the_dance_is_found_again_in_a_batch_and_told_by_its_index_and_summary(tmp_path: Path) -> None:
    """The result of the tiny model, noise, is replaced by the true drawings of what was asked."""
    frames, poses = drawn(6)
    save_poses(tmp_path / "dance.npz", poses)
    still = render(make_character(5), reference_pose(5), 0, *SIZE)
    write_png(tmp_path / "ref.png", still.image)
    save_poses(
        tmp_path / "ref.npz", PoseSequence(still.keypoints[None], still.scores[None], SIZE, Fraction(1))
    )
    (tmp_path / "videos.csv").write_text(
        "pose,reference,align,width,height\ndance.npz,ref.png,none,144,256\n"
    )
    config = small_batch(tmp_path / "videos.csv", tmp_path / "out", steps=1)
    assert batch(config) == 0
    (name, *_), *_ = listed(tmp_path / "out")
    job = tmp_path / "out" / name
    with VideoWriter(job / "result.mp4", *SIZE, FPS) as writer:
        for frame in frames:
            writer.write(frame)
    (figures,) = evaluate_result(tmp_path / "out").values()
    assert figures["pose_found"] == 1 and figures["pck_10"] > 0.9 and figures["error_percent"] < 4
    assert figures["flicker"] < 4 and figures["background_last"] < 2 and figures["torso_last"] < 10
    assert json.loads((job / "evaluation.json").read_text())["pck_10"] == figures["pck_10"]
    ((_, state, result, line),) = listed(tmp_path / "out")
    assert (state, result) == ("done", "result.mp4") and line.startswith("pose found again 100%, joints off ")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["evaluated"] == {name: figures} and summary["videos"] == {"done": 1}
    assert "1 of 1 videos done" in (tmp_path / "out" / "index.html").read_text()
    (job / ".work" / "placement.json").unlink()
    with pytest.raises(ConfigError, match=r"placement\.json is not there, .* run the same command") as error:
        evaluate_result(job)
    assert "\n" not in str(error.value)
    shutil.rmtree(job / ".work")
    with pytest.raises(ConfigError, match=r"no record of a finished result .* run `animate`"):
        evaluate_result(job)


def test_a_result_without_a_network_has_no_settings_to_be_read(tmp_path: Path) -> None:
    job, config = (
        Job(tmp_path),
        AnimateConfig(model="cutout", output=tmp_path, reference=tmp_path / "ref.png"),
    )
    job.record_path("result").parent.mkdir(parents=True)
    (tmp_path / "ref.png").touch()
    for step in steps_of(config):
        for path in step.files(tmp_path, config):
            path.touch()
        job.commit(step.name, "key", step.files(tmp_path, config))
    assert set(files_of(job, config)) == {"poses", "reference", "placement", "result", "picture"}


def test_a_folder_without_a_job_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a job folder nor that of a batch"):
        evaluate_result(tmp_path)
