"""The main job, end to end, on the tiny generator: what is written, what is redone, what survives a kill."""

import json
import signal
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from helpers import add_dance, add_picture, command, made_at, started, wait_for

from posedance.datasets.puppets.render import make_character, reference_pose, render
from posedance.pipeline.animate.animate import animate
from posedance.pipeline.animate.graph import STEPS, run, step_keys
from posedance.pipeline.animate.pose_steps import copy_poses
from posedance.pipeline.animate.recorded import read_settings
from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.cli import main
from posedance.pipeline.config import AnimateConfig, EncodeConfig, WindowConfig, resolve
from posedance.pipeline.job.job import open_job
from posedance.stages.atomic import temporary_name
from posedance.stages.errors import ConfigError, PosedanceError, PoseError
from posedance.stages.media.frames import StoredFrames
from posedance.stages.media.picture import read_picture, write_png
from posedance.stages.media.video import Clip, probe, read_frames
from posedance.stages.pose.files import load_poses, save_poses
from posedance.stages.svd.generator import SvdGenerator
from posedance.stages.types import PoseSequence

FPS = Fraction(15)


@pytest.fixture(scope="module")
def dance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with poses.npz (20 frames of a drawn dancer), ref.png, and the keypoints beside it."""
    folder = tmp_path_factory.mktemp("dance")
    add_dance(folder, "poses", 2, 20)
    add_picture(folder, "ref", 6)
    return folder


def config(dance: Path, output: Path, **changes: object) -> AnimateConfig:
    """A small job that needs no pose estimator."""
    return AnimateConfig(
        pose=dance / "poses.npz", reference=dance / "ref.png", model="tiny-random", output=output
    ).model_copy(update=changes)


def command_of(dance: Path, output: Path, steps: int) -> list[str]:
    """The same job as a command, to be killed."""
    options = {
        "--pose": dance / "poses.npz",
        "--reference": dance / "ref.png",
        "--model": "tiny-random",
        "--steps": steps,
        "--output": output,
    }
    return command("animate", options)


def test_an_output_that_names_a_video_is_written_with_its_folder_beside_it(
    dance: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "dance.mp4"
    written = animate(config(dance, asked, steps=1))
    assert written[:2] == [asked, tmp_path / "dance.job" / "result.mp4"]
    assert {path.name for path in tmp_path.iterdir()} == {"dance.mp4", "dance.job"}
    assert asked.read_bytes() == written[1].read_bytes()
    asked.unlink()
    torn, others = (
        temporary_name(asked),
        [temporary_name(tmp_path / "dance.mp4.mp4"), tmp_path / ".dance.mp4"],
    )
    for path in (torn, *others):
        path.write_text("of a run that was killed, and of others")
    assert animate(resolve(AnimateConfig, AnimateConfig(), tmp_path / "dance.job" / "config.yaml")) == written
    assert asked.is_file()
    assert not torn.exists() and all(path.exists() for path in others)


def test_lossless_is_another_file_of_the_same_frames(dance: Path, tmp_path: Path) -> None:
    """The latents are not made again, the comparison shows it, and what was written before is gone."""
    played = config(dance, tmp_path / "out", steps=1)
    animate(played)
    before, shown = made_at(tmp_path / "out"), list(read_frames(tmp_path / "out" / "result.mp4", Clip()))
    pictures = []
    for bit_depth in (8, 10):
        encode = EncodeConfig(lossless=True, bit_depth=bit_depth)
        written = animate(played.model_copy(update={"encode": encode}))
        assert written[0] == tmp_path / "out" / "result.mkv"
        assert not (tmp_path / "out" / "result.mp4").exists()
        pictures.append(np.stack(list(read_frames(written[0], Clip()))).astype(int))
        after = made_at(tmp_path / "out")
        assert {step for step in after if after[step] != before[step]} == {"result", "comparison"}
    assert probe(written[1]).num_frames == len(pictures[0]) == 20
    assert np.abs(pictures[0] - shown).max() > 1 and np.abs(pictures[0] - shown).mean() < 12
    assert np.abs(pictures[1] - pictures[0]).max() == 1 and not (pictures[1] == pictures[0]).all()
    asked = played.model_copy(update={"encode": encode, "output": tmp_path / "master.mkv"})
    assert animate(asked)[0].read_bytes() == written[0].read_bytes()
    with pytest.raises(ConfigError, match=r"master\.mp4"):
        animate(asked.model_copy(update={"output": tmp_path / "master.mp4"}))
    animate(played)
    assert not written[0].exists()


def test_a_job_folder_holds_everything(dance: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    written = animate(config(dance, output))
    assert [path.name for path in written] == [
        "result.mp4", "comparison.mp4", "contact_sheet.png", "poses.npz", "pose_report.json"
    ]  # fmt: skip
    assert all(path.is_file() for path in written)
    assert {"config.yaml", "environment.json"} <= {path.name for path in output.iterdir()}
    info = probe(output / "result.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 96, FPS, 20)
    assert probe(output / "comparison.mp4").num_frames == 20
    assert len(load_poses(output / "poses.npz")) == 20
    assert read_picture(output / "contact_sheet.png").shape[0] > 288
    assert json.loads((output / "environment.json").read_text())["versions"]["torch"]
    assert not (output / ".work" / "checkpoint.safetensors").exists()
    assert read_settings(output / "result.mp4") == read_settings(output)


def test_same_seed_same_bytes_another_seed_another_video(dance: Path, tmp_path: Path) -> None:
    videos = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        animate(config(dance, tmp_path / name, seed=seed))
        videos.append((tmp_path / name / "result.mp4").read_bytes())
    assert videos[0] == videos[1] != videos[2]


def test_only_what_a_change_touches_is_done_again(dance: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    animate(config(dance, output))
    before = made_at(output)
    animate(config(dance, output))
    assert made_at(output) == before, "nothing changed, nothing may be redone"

    def redone(**changes: object) -> set[str]:
        old = made_at(output)
        animate(config(dance, output, **changes))
        return {step for step, at in made_at(output).items() if at != old[step]}

    assert redone(seed=1) == {"latents", "result", "comparison"}
    assert redone(seed=1, align="none") == {
        "reference", "placement", "control", "latents", "result", "comparison"
    }  # fmt: skip
    (output / "comparison.mp4").write_bytes(b"torn")
    assert redone(seed=1, align="none") == {"comparison"}
    (output / "result.mp4").unlink()
    assert redone(seed=1, align="none") == {"result"}, "the same bytes again: what follows still holds"


def test_a_changed_picture_is_noticed(dance: Path, tmp_path: Path) -> None:
    reference = tmp_path / "ref.png"
    reference.write_bytes((dance / "ref.png").read_bytes())
    (tmp_path / "ref.npz").write_bytes((dance / "ref.npz").read_bytes())
    job = config(dance, tmp_path / "out", reference=reference)
    animate(job)
    old = made_at(tmp_path / "out")
    write_png(reference, 255 - read_picture(reference))
    animate(job)
    new = made_at(tmp_path / "out")
    assert {step for step in old if old[step] != new[step]} >= {"latents", "result", "comparison"}
    assert old["poses"] == new["poses"]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_video(dance: Path, tmp_path: Path) -> None:
    """kill -9 a run again and again, each time a little later; the last one gets through."""
    whole = tmp_path / "whole"
    job = config(dance, whole, steps=6)
    animate(job)
    broken = tmp_path / "broken"
    words = command_of(dance, broken, 6)[3:]
    records = broken / ".work" / "records"
    for watched in ("control.json", "checkpoint", "latents.json"):
        run = started(words)
        checkpoint = broken / ".work" / "checkpoint.safetensors"
        path = checkpoint if watched == "checkpoint" else records / watched
        wait_for(run, path)
        run.kill()
        run.join()
    assert main(words) == 0
    for name in ("result.mp4", "poses.npz", "contact_sheet.png"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(broken.rglob("*.tmp"))


@pytest.mark.slow
def test_a_stopped_run_says_how_to_resume_and_goes_on_inside_the_denoising(
    dance: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = command_of(dance, output, 8)
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(run, output / ".work" / "checkpoint.safetensors")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "run the same command again" in said and "Traceback" not in said
    assert main(words[3:]) == 0
    assert "going on after step" in capfd.readouterr().err


def test_a_character_without_a_pose_dances_unaligned(dance: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "chair.png", np.full((256, 144, 3), 90, np.uint8))
    job = config(dance, tmp_path / "out", reference=tmp_path / "chair.png")
    with pytest.raises(PoseError, match=r"no person found .*--align none.*\.npz"):
        animate(job)
    animate(job.model_copy(update={"align": "none"}))
    assert probe(tmp_path / "out" / "result.mp4").num_frames == 20


def test_keypoints_of_another_picture_are_refused(dance: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "ref.png", np.zeros((100, 100, 3), np.uint8))
    (tmp_path / "ref.npz").write_bytes((dance / "ref.npz").read_bytes())
    with pytest.raises(PoseError, match=r"144x256, but .* is 100x100"):
        animate(config(dance, tmp_path / "out", reference=tmp_path / "ref.png"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"width": 100}, r"multiples of 16; the nearest is --width 96"),
        ({"window": WindowConfig(size=8, overlap=8)}, "overlap 8"),
        ({"window": WindowConfig(size=8, overlap=0, plan="published")}, "overlap 0"),
        ({"reference": None}, "--reference is missing"),
        ({"pose": None}, "--driving is missing"),
        ({"driving": Path("d.mp4")}, "both given"),
        ({"start": Fraction(1)}, "--start is of a driving video: leave it out"),
        ({"duration": Fraction(1)}, "--duration is of a driving video: leave it out"),
        ({"stride": 3}, "--stride is of a driving video: leave it out"),
        ({"lora_scale": 0.5}, "--lora-scale 0.5 without weights"),
        ({"model": "svd-xt-2"}, "no model 'svd-xt-2'"),
        ({"model": "svd-xt-1.1"}, "--weights.base"),
    ],
)
def test_a_request_that_cannot_be_run_is_refused_in_one_line(
    dance: Path, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    with pytest.raises(PosedanceError, match=expected) as error:
        animate(config(dance, tmp_path / "out", **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "result.mp4").exists()


@pytest.mark.slow
def test_a_real_clip_and_picture(samples: Path, tmp_path: Path) -> None:
    """From the dancer's mp4 and a photograph to a video of the right length, size and rate."""
    job = AnimateConfig(
        driving=samples / "driving_02.mp4",
        reference=samples / "ref_03.jpeg",
        model="tiny-random",
        duration=Fraction(1),
        output=tmp_path / "out",
    )
    animate(job)
    info = probe(tmp_path / "out" / "result.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 96, Fraction(15), 15)
    poses = load_poses(tmp_path / "out" / "poses.npz")
    assert poses.size == (576, 1024) and (poses.scores[:, :11] > 0.3).mean() > 0.9


def wide_photo(folder: Path, centre: float) -> None:
    """A landscape picture with the character at `centre` of its width, its keypoints, and a dance."""
    add_dance(folder, "poses", 2, 3)
    character = make_character(6)
    framing = replace(character.framing, zoom=1.0, centre=centre)
    still = render(character, reference_pose(6), 0, 320, 180, framing)
    write_png(folder / "ref.png", still.image)
    own = PoseSequence(still.keypoints[None], still.scores[None], (320, 180), Fraction(1))
    save_poses(folder / "ref.npz", own)


def test_a_character_at_the_side_of_a_wide_photo_is_kept(tmp_path: Path) -> None:
    wide_photo(tmp_path, 0.15)
    job = config(tmp_path, tmp_path / "out", steps=1)
    animate(job)
    drawn = StoredFrames(tmp_path / "out" / ".work" / "control.zip")[0:4]
    assert (drawn.max((1, 2, 3)) > 0).all()
    for step in ("placement", "control"):
        record = json.loads((tmp_path / "out" / ".work" / "records" / f"{step}.json").read_text())
        assert record["facts"]["inside"] > 0.9, step
    assert record["facts"]["fitted"] == "limbs"
    assert abs(record["facts"]["limbs"]["left thigh"] - 1) < 0.03
    assert probe(tmp_path / "out" / "result.mp4").width == 64
    blind = job.model_copy(update={"align": "published", "output": tmp_path / "blind"})
    with pytest.raises(PoseError, match=r"64x96 shows 0% of the joints .*ref\.png.*--fit pad"):
        animate(blind)
    assert not (tmp_path / "blind" / ".work" / "latents.safetensors").exists()


def test_a_padded_picture_is_whole_and_the_result_has_its_shape(tmp_path: Path) -> None:
    wide_photo(tmp_path, 0.2)
    animate(config(tmp_path, tmp_path / "out", steps=1, fit="pad"))
    info = probe(tmp_path / "out" / "result.mp4")
    assert (info.width, info.height) == (64, 36)
    drawn = StoredFrames(tmp_path / "out" / ".work" / "control.zip")[0:1][0]
    assert drawn.shape == (96, 64, 3)
    assert probe(tmp_path / "out" / "comparison.mp4").num_frames == 3


@pytest.mark.parametrize("plan", ["even", "published"])
def test_a_recipe_shrinks_the_picture_as_published(
    tmp_path: Path, plan: Literal["even", "published"]
) -> None:
    """Without antialiasing, so that the fine stripes of this one become moire; else they become grey."""
    add_dance(tmp_path, "poses", 2, 5)
    add_picture(tmp_path, "ref", 6)
    stripes = np.zeros((256, 144, 3), np.uint8)
    stripes[::2] = 255
    write_png(tmp_path / "ref.png", stripes)
    job = config(tmp_path, tmp_path / "out", window=WindowConfig(size=4, overlap=1, plan=plan))
    shown: list[np.ndarray] = []

    def denoise(generator: SvdGenerator, control: Path, image: np.ndarray, *rest: object, **options: object):
        shown.append(image)
        return torch.zeros(6, 4, 12, 8)

    with open_job(job.output) as opened:
        run(opened, STEPS["latents"], job, step_keys(job), Tools(denoise=denoise))
    assert (shown[0].std() > 20) == (plan == "published")


def test_a_dancer_who_would_not_be_seen_is_refused_before_the_model_runs(tmp_path: Path) -> None:
    wide_photo(tmp_path, 0.5)
    dance = load_poses(tmp_path / "poses.npz")
    away = PoseSequence(dance.keypoints + np.array([dance.size[0], 0]), dance.scores, dance.size, dance.fps)
    save_poses(tmp_path / "poses.npz", away)
    with pytest.raises(PoseError, match=r"64x96 shows 0% of the dancer's joints, which --align none fits"):
        animate(config(tmp_path, tmp_path / "out", align="none", accept_poses=True))
    assert not (tmp_path / "out" / ".work" / "latents.safetensors").exists()


def test_what_a_cut_dancer_does_not_show_is_said_in_one_line(dance: Path, tmp_path: Path) -> None:
    whole = load_poses(dance / "poses.npz")
    (figures,) = copy_poses(config(dance, tmp_path), tmp_path / "poses.npz")["notes"]
    assert figures.startswith("20 frames, body joints found ")
    scores = whole.scores.copy()
    scores[:, 13:17] = 0
    save_poses(tmp_path / "cut.npz", replace(whole, scores=scores))
    facts = copy_poses(config(dance, tmp_path, pose=tmp_path / "cut.npz"), tmp_path / "poses.npz")
    _, note = facts["notes"]
    assert "does not show the dancer's knees and feet" in note and "\n" not in note
