"""Poses that are not good enough stop a video before its model works, unless they are accepted."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import add_dance, add_picture, made_at, small_batch

from posedance.pipeline.animate.accept import LIMITS, AcceptConfig, refuse_poor_poses, short_line, table
from posedance.pipeline.animate.animate import animate
from posedance.pipeline.animate.picture_steps import character
from posedance.pipeline.animate.pose_steps import load_report
from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.animate.video import Video
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.plan import find_items, plan_items, tasks_of
from posedance.pipeline.batch.status import states_of
from posedance.pipeline.config import AnimateConfig
from posedance.stages.errors import PoseError
from posedance.stages.pose.files import load_poses, save_poses
from posedance.stages.pose.follow.report import PoseReport
from posedance.stages.types import PoseSequence

GOOD = PoseReport(100, 5, 3, 1, 0.9, 0.7, 0.8, 0.8, 0.9, 0.95, 0.05, 0.5)
POOR = {
    "min_seen": {"missing": 30},
    "min_body": {"body": 0.4},
    "min_hands": {"left_hand": 0.0, "right_hand": 0.1},
    "min_face": {"face": 0.0},
    "max_cut_off": {"cut_off": 0.4},
    "max_jitter": {"jitter": 7.0},
}
"""For each limit what falls short of it alone."""


def test_every_limit_has_its_row() -> None:
    assert POOR.keys() == AcceptConfig.model_fields.keys() == {limit.option for limit in LIMITS}
    assert refuse_poor_poses(GOOD, AcceptConfig(), "dance.mp4", accepted=False) == []
    unknown = replace(GOOD, left_hand=None, right_hand=None, face=None, jitter=None)
    assert refuse_poor_poses(unknown, AcceptConfig(), "dance.mp4", accepted=False) == []


@pytest.mark.parametrize("option", POOR)
def test_what_falls_short_is_told_in_one_line_with_its_limit_and_what_to_do(option: str) -> None:
    poor, words = replace(GOOD, **POOR[option]), "--accept." + option.replace("_", "-")
    with pytest.raises(
        PoseError, match=rf"poses of dance\.mp4 .*at (least|most).*{words}.*--accept-poses$"
    ) as e:
        refuse_poor_poses(poor, AcceptConfig(), "dance.mp4", accepted=False)
    assert "\n" not in str(e.value) and str(e.value).count("(at ") == 1
    (note,) = refuse_poor_poses(poor, AcceptConfig(), "dance.mp4", accepted=True)
    assert "accepted" in note
    assert ("not good enough" in table(poor, AcceptConfig())) and "not good" not in table(
        GOOD, AcceptConfig()
    )
    lax = AcceptConfig(**{option: 99.0 if option == "max_jitter" else float(option == "max_cut_off")})
    assert refuse_poor_poses(poor, lax, "dance.mp4", accepted=False) == []


def test_the_figures_fit_in_one_line() -> None:
    assert short_line(GOOD) == (
        "100 frames, body joints found 90%, left hand 70% (80% filled), right hand 80% (90% filled), "
        "face 95%, jitter 0.5 %, outside the picture 5%"
    )


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with poor.npz, a dancer of whom the head alone is seen, good.npz, and ref.png."""
    folder = tmp_path_factory.mktemp("poor")
    for name in ("good", "poor"):
        add_dance(folder, name, 2)
    add_picture(folder, "ref", 6)
    whole = load_poses(folder / "poor.npz")
    scores = whole.scores.copy()
    scores[:, 7:23] = 0.1
    save_poses(folder / "poor.npz", PoseSequence(whole.keypoints, scores, whole.size, whole.fps))
    return folder


def test_animate_stops_before_its_model_works_and_goes_on_from_the_poses_it_found(
    poor: Path, tmp_path: Path
) -> None:
    config = AnimateConfig(
        pose=poor / "poor.npz", reference=poor / "ref.png", model="tiny-random", steps=1, output=tmp_path
    )
    with pytest.raises(PoseError, match=r"poor\.npz .*body joints found 41% \(at least 50%\)"):
        animate(config)
    before = made_at(tmp_path)
    assert "poses" in before and before.keys().isdisjoint({"control", "latents", "result"})
    assert load_report(tmp_path / "pose_report.json").body == pytest.approx(7 / 17)
    animate(config.model_copy(update={"accept_poses": True}))
    after = made_at(tmp_path)
    assert {step for step in before if before[step] != after[step]} == set() and "result" in after
    animate(config)  # what was accepted is done
    assert made_at(tmp_path) == after
    reads = {"poses": (tmp_path / "poses.npz", tmp_path / "pose_report.json")}
    with closing(Tools()) as tools, pytest.raises(PoseError, match="not good enough"):
        character(Video(tmp_path, config, "key", reads, ()), tools)


def test_a_batch_gives_up_what_falls_short_until_it_is_accepted(poor: Path, tmp_path: Path) -> None:
    manifest = poor / "videos.csv"
    manifest.write_text("pose,reference\ngood.npz,ref.png\npoor.npz,ref.png\n")
    config = small_batch(manifest, tmp_path, steps=1)
    assert batch(config) == 3
    (given_up,) = (state for state in states_of(tmp_path) if state.status == "quarantined")
    assert given_up.attempts == 1 and "body joints found 41% (at least 50%)" in given_up.error
    before = made_at(tmp_path / given_up.name)
    assert batch(config) == 3 and made_at(tmp_path / given_up.name) == before
    assert batch(config.model_copy(update={"accept_poses": True})) == 0
    after = made_at(tmp_path / given_up.name)
    assert before["poses"] == after["poses"] and "result" in after


@pytest.mark.parametrize("accepts", [("", "true"), ("true", "")])
def test_what_videos_share_is_made_by_one_that_accepts(
    poor: Path, tmp_path: Path, accepts: tuple[str, str]
) -> None:
    """A character is painted in a dance for both; the one that does not accept stops by itself."""
    rows = "".join(f"poor.npz,{number},{word}\n" for number, word in enumerate(accepts))
    (poor / "painted.csv").write_text(f"pose,seed,accept_poses\n{rows}")
    asked = small_batch(poor / "painted.csv", tmp_path, character_prompt="a dancer in blue")
    items, _ = find_items(asked)
    keys = plan_items(tmp_path, items, asked).keys
    tasks = tasks_of(tmp_path, items, keys, {"pose", "draw", "denoise", "compare"})
    (painting,) = (task for task in tasks if task.work.step == "character")
    assert painting.work.config.accept_poses
    assert {task.item: task.work.config.accept_poses for task in tasks if task.work.step == "control"} == {
        item.name: item.config.accept_poses for item in items
    }
