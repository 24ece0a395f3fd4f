"""The figure of paper in commands: `pose --reference`, and `animate --model cutout`."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import SIZE, add_dance, add_picture

from posedance.pipeline.animate import paper
from posedance.pipeline.animate.animate import animate, plan
from posedance.pipeline.animate.graph import step_keys
from posedance.pipeline.animate.photographs import about_photographs
from posedance.pipeline.animate.pose import POSE_GRAPH, pose
from posedance.pipeline.animate.video import Video
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.config import AnimateConfig, BatchConfig, PoseConfig
from posedance.pipeline.web.asking import models, refuse_model
from posedance.stages.errors import ConfigError
from posedance.stages.media.picture import read_picture, write_png
from posedance.stages.media.video import Clip, probe, read_frames


@pytest.fixture
def dance(make_video, tmp_path: Path) -> AnimateConfig:
    """A drawn character, a dance of 8 frames, and a video with sound from which it is said to be."""
    add_dance(tmp_path, "poses", 2, 8)
    add_picture(tmp_path, "ref", 3)
    make_video(tmp_path / "driving.mp4", 8, Fraction(15), size=(48, 32), sound=np.zeros(8000, np.float32))
    return AnimateConfig(
        driving=tmp_path / "driving.mp4", stride=1, reference=tmp_path / "ref.png", output=tmp_path / "out"
    )


def test_an_animatic_moves_the_character_and_keeps_the_sound(dance: AnimateConfig, tmp_path: Path) -> None:
    dance.output.mkdir()
    reads = {"poses": (tmp_path / "poses.npz",), "reference": (tmp_path / "ref.npz",)}
    paper.animatic(Video(dance.output, dance, "0", reads, ()), None)
    for name in ("animatic.mp4", "fitted.mp4"):
        info = probe(dance.output / name)
        assert (info.num_frames, info.fps, info.has_audio) == (8, Fraction(15), True)
    frames = np.stack(list(read_frames(dance.output / "animatic.mp4", Clip()))).astype(int)
    assert frames.shape[1:3] == SIZE[::-1]
    assert np.abs(frames[0] - frames[5]).max(-1).mean() > 1, "nobody moves"
    still = read_picture(tmp_path / "ref.png").astype(int)
    assert np.median(np.abs(frames[3] - still)) < 6, "the room is not the picture's"
    assert read_picture(dance.output / "fitted_sheet.png").shape[0] > 4 * 200


def test_pose_asks_for_an_animatic_only_of_a_picture(dance: AnimateConfig) -> None:
    bare = dance.model_copy(update={"reference": None})
    assert {"reference", "animatic"} == {step.name for step in POSE_GRAPH if not step.asked(bare)}
    assert all(step.asked(dance) for step in POSE_GRAPH)
    with pytest.raises(ConfigError, match="--align wan without --reference"):
        pose(PoseConfig(driving=dance.driving, align="wan"))


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"align": "wan"}, {"animatic"}),
        ({"align": "none"}, {"animatic", "reference"}),  # may lack a person
        ({"encode": {"crf": 30}}, {"animatic", "overlay"}),
        ({"max_gap": 3}, {"animatic", "overlay", "poses", "json"}),
    ],
)
def test_keys_of_pose(dance: AnimateConfig, change: dict[str, object], steps: set[str]) -> None:
    if "max_gap" in change:
        change = {"estimator": {"max_gap": 3}}
    other = AnimateConfig.model_validate({**dance.model_dump(), **change})
    before, after = (step_keys(each, POSE_GRAPH) for each in (dance, other))
    assert {name for name in before if before[name] != after[name]} == steps


def cutout(folder: Path, **changes: object) -> AnimateConfig:
    fields: dict[str, object] = {"pose": folder / "poses.npz", "reference": folder / "ref.png"}
    small: dict[str, object] = {"width": 90, "height": 160, "model": "cutout", "output": folder / "made"}
    return AnimateConfig.model_validate({**fields, **small, **changes})


def test_a_character_dances_without_a_network(dance: AnimateConfig, tmp_path: Path) -> None:
    config = cutout(tmp_path, upscale=2, upscaler={"method": "lanczos"})
    written = animate(config)
    assert [path.name for path in written][:2] == ["upscaled.mp4", "result.mp4"]
    info = probe(tmp_path / "made/result.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (90, 160, 8, Fraction(15))
    frames = np.stack(list(read_frames(tmp_path / "made/result.mp4", Clip()))).astype(int)
    assert np.abs(frames[0] - frames[5]).max(-1).mean() > 1, "nobody moves"
    assert (tmp_path / "made/comparison.mp4").is_file() and probe(tmp_path / "made/upscaled.mp4").width == 180
    made = (tmp_path / "made/result.mp4").stat().st_mtime_ns
    animate(config)
    assert (tmp_path / "made/result.mp4").stat().st_mtime_ns == made
    assert not (tmp_path / "made/.work/latents.safetensors").exists()


def test_what_is_of_a_network_is_refused(dance: AnimateConfig, tmp_path: Path) -> None:
    for option, value in (("steps", 3), ("seed", 4), ("window", {"size": 5}), ("preset", "best")):
        with pytest.raises(ConfigError, match=f"--{option}.* is of a network: leave it out"):
            animate(cutout(tmp_path, **{option: value}))
    with pytest.raises(ConfigError, match=r"cutout cannot make 91x160: .* --width 92 --height 160"):
        animate(cutout(tmp_path, width=91))
    with pytest.raises(ConfigError, match="--workers 2 with --model cutout, which has no windows"):
        animate(cutout(tmp_path), workers=2)
    assert plan(cutout(tmp_path)) == "model    cutout, without a network\nframes   8 of 90x160"


def test_what_decides_a_figure_of_paper(dance: AnimateConfig, tmp_path: Path) -> None:
    last = {"result", "comparison"}
    changes: list[tuple[dict[str, object], set[str]]] = [
        ({"align": "wan"}, {"paper", "control", *last}),
        ({"fit": "pad"}, {"placement", "paper", "control", *last}),
        ({"encode": {"crf": 30}}, last),
    ]
    for change, steps in changes:
        before, after = step_keys(cutout(tmp_path)), step_keys(cutout(tmp_path, **change))
        assert {name for name in before if before[name] != after[name]} == steps


def test_the_demo_model_is_said_to_know_no_photographs(dance: AnimateConfig, tmp_path: Path) -> None:
    assert about_photographs(cutout(tmp_path, model="demo")) == ""
    rich = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3)).astype(np.uint8)
    write_png(tmp_path / "photo.png", rich)
    told = about_photographs(cutout(tmp_path, model="demo", reference=tmp_path / "photo.png"))
    assert "--model cutout" in told and "\n" not in told
    assert about_photographs(cutout(tmp_path, reference=tmp_path / "photo.png")) == ""
    shutil.copyfile(tmp_path / "ref.npz", tmp_path / "photo.npz")
    (tmp_path / "jobs.csv").write_text(
        "pose,reference,seed\n" + "".join(f"poses.npz,photo.png,{i}\n" for i in (1, 2))
    )
    options = {"manifest": tmp_path / "jobs.csv", "output": tmp_path / "all", "executor": "local"}
    refused = {"model": "demo", "accept": {"max_jitter": 0}}  # before the model works
    assert batch(BatchConfig.model_validate({**options, **refused})) == 3
    told = told.replace(str(tmp_path / "photo.png"), "photo.png")
    assert (tmp_path / "all/index.html").read_text().count("photo.png is no drawn dancer") == 1
    (note,) = json.loads((tmp_path / "all/summary.json").read_text())["notes"]
    assert note.endswith(told)


def test_a_batch_and_the_page_take_it(dance: AnimateConfig, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("pose,reference,name\nposes.npz,ref.png,one\n")
    options = {"manifest": tmp_path / "jobs.csv", "output": tmp_path / "all", "executor": "local"}
    assert batch(BatchConfig.model_validate({**options, "model": "cutout", "width": 54, "height": 96})) == 0
    assert probe(tmp_path / "all/one/result.mp4").num_frames == 8
    assert not (tmp_path / "all/one/.work/paper.npz").exists(), (
        "large, and of use to nobody who has the result"
    )
    refuse_model("cutout", {}, {})
    assert ("cutout", "") in models({})
