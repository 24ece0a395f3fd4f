"""`character`, as a user types it: the chosen pose, the seeds, going on after a stop, what is refused."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import FPS, SIZE

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.pipeline.character import painting as room
from posedance.pipeline.character.character import character, wanted_of
from posedance.pipeline.character.config import CharacterConfig
from posedance.pipeline.character.following import Dance, asked_pose, followed_edges
from posedance.pipeline.cli import main
from posedance.stages.errors import ConfigError, PoseError
from posedance.stages.image.conditions import canny, edges_agree
from posedance.stages.image.families import new_module
from posedance.stages.image.tiny import tiny_pipeline
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.picture import place, read_picture, write_png
from posedance.stages.media.video import Clip
from posedance.stages.pose.base import Detections
from posedance.stages.pose.crop import place_around_pose
from posedance.stages.pose.files import load_poses, save_poses
from posedance.stages.pose.follow.choose import best_frame, first_frame, frontality, pose_error
from posedance.stages.types import NUM_KEYPOINTS, PoseSequence


def dance(count=6) -> PoseSequence:
    drawn = [render(make_character(5), make_motion(3, FPS), frame, *SIZE) for frame in range(count)]
    return PoseSequence(
        np.stack([d.keypoints for d in drawn]), np.stack([d.scores for d in drawn]), SIZE, FPS
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder as `convert` writes it, and a dance beside it."""
    folder = tmp_path_factory.mktemp("base")
    pipeline = tiny_pipeline("sd15")
    pipeline.save_pretrained(folder / "model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow = {"in_channels": (8,), "out_channels": (8,), "groups": (1,), "stem_channels": 8}
        new_module(pipeline.unet, **narrow).save_pretrained(folder / "model/controlnext")
    save_poses(folder / "dance.npz", dance())
    return folder


def asked(base: Path, output: Path, **changes) -> CharacterConfig:
    small = {"width": 64, "height": 96, "canvas": 96, "steps": 1, "seeds": 2}
    named = {"pose": base / "dance.npz", "base": str(base / "model"), "prompt": "a dancer in red"}
    return CharacterConfig.model_validate(small | named | {"output": output} | changes)


class Sees:
    """An estimator that finds the asked pose, each time shifted by other pixels; None stands for nobody."""

    def __init__(self, pose: PoseSequence, offsets: list[float | None]) -> None:
        self.pose, self.offsets = pose, iter(offsets)

    def setup(self):
        pass

    def start(self, *, static=False):
        pass

    def close(self):
        pass

    def __call__(self, frames):
        off = next(self.offsets)
        if off is None:
            return [Detections(np.zeros((0, NUM_KEYPOINTS, 2)), np.zeros((0, NUM_KEYPOINTS))) for _ in frames]
        return [Detections(self.pose.keypoints + off, self.pose.scores) for _ in frames]


def seen_by(monkeypatch, config: CharacterConfig, offsets: list[float | None]) -> None:
    pose, _ = asked_pose(config.frame, load_poses(config.pose), wanted_of(config).size)
    monkeypatch.setattr("posedance.pipeline.animate.tools.estimator_of", lambda options: Sees(pose, offsets))


def test_the_truest_of_the_seeds_is_the_reference(base, tmp_path, monkeypatch, caplog):
    config = asked(base, tmp_path, seeds=3, seed=7)
    seen_by(monkeypatch, config, [9.0, 1.0, None])
    with caplog.at_level("INFO", "posedance"):
        paths = character(config)
    assert [path.name for path in paths] == ["reference.png", "sheet.png", "character.json"]
    record = json.loads((tmp_path / "character.json").read_text())
    assert record["seed"] == 8 and record["pose_errors"]["9"] is None
    assert record["pose_errors"]["8"] == pytest.approx(2**0.5 / 96, abs=1e-3)
    assert {"unet", "vae", "text_encoder"} <= {Path(name).parts[0] for name in record["weights"]["base"][0]}
    made = read_picture(tmp_path / ".work/seed-8.png")
    assert np.array_equal(read_picture(tmp_path / "reference.png"), made)
    assert made.shape == (96, 64, 3) and made.std() > 1
    assert read_picture(tmp_path / "sheet.png").shape[1] == 4 * 64
    assert "seed 8 is taken: its pose is 1.5% of the height off" in caplog.text
    assert not np.array_equal(made, read_picture(tmp_path / ".work/seed-7.png"))


def test_more_seeds_paint_only_the_new_ones_and_another_prompt_all(base, tmp_path, monkeypatch):
    painted = []
    paint = room.paint_one
    monkeypatch.setattr(room, "paint_one", lambda *a: painted.append(a[4]) or paint(*a))
    for changes, seeds in (
        ({}, [0, 1]),
        ({}, []),
        ({"seeds": 3}, [2]),
        ({"seeds": 3, "prompt": "a dancer in blue"}, [0, 1, 2]),
    ):
        config = asked(base, tmp_path, **changes)
        seen_by(monkeypatch, config, [None] * 3)
        painted.clear()
        character(config)
        assert painted == seeds


def test_no_pose_found_is_said(base, tmp_path, monkeypatch, caplog):
    config = asked(base, tmp_path)
    seen_by(monkeypatch, config, [None, None])
    with caplog.at_level("INFO", "posedance"):
        character(config)
    assert "in none of them was a person found" in caplog.text


def test_a_picture_to_begin_from(base, tmp_path, monkeypatch):
    red = np.full((100, 70, 3), (200, 30, 30), np.uint8)
    write_png(tmp_path / "who.png", red)
    made = []
    for strength in (0.3, 1.0):
        config = asked(
            base, tmp_path / "out", picture=tmp_path / "who.png", strength=strength, steps=4, seeds=1
        )
        seen_by(monkeypatch, config, [None])
        character(config)
        made.append(read_picture(tmp_path / "out/reference.png").astype(int))
    assert not np.array_equal(*made)


def test_the_edges_of_a_picture_are_followed_without_a_dance(base, tmp_path, monkeypatch, caplog):
    """The picture whose edges agree most is taken; edges that are drawn already are followed as they are."""
    square = np.zeros((96, 64, 3), np.uint8)
    cv2.rectangle(square, (16, 24), (48, 72), (255, 255, 255), -1)
    shown = []
    far, near = np.roll(square, 12, axis=1), np.roll(square, 1, axis=1)
    monkeypatch.setattr(room, "paint_one", lambda *a: shown.append(a[3]) or (near if a[4] else far))
    outline = canny(square // 2 + 50)
    for name, picture in (("photo", square // 2 + 50), ("edges", outline)):
        write_png(tmp_path / f"{name}.png", picture)
        changes = {"pose": None, "condition": "canny", "control": tmp_path / f"{name}.png"}
        with caplog.at_level("INFO", "posedance"):
            character(asked(base, tmp_path / name, **changes))
        record = json.loads((tmp_path / name / "character.json").read_text())
        assert record["seed"] == 1 and record["canny_errors"]["1"] < 0.05 < record["canny_errors"]["0"]
        assert not (tmp_path / name / "poses.npz").exists()
    assert all(np.array_equal(each, outline) for each in shown) and len(shown) == 4
    assert "seed 1 is taken: 100% of its edges and the asked ones agree" in caplog.text


def test_the_edges_of_the_dances_frame_are_cut_out_as_its_pose(tmp_path):
    poses = dance(4)
    pictures = [render(make_character(5), make_motion(3, FPS), frame, *SIZE).image for frame in range(4)]
    with VideoWriter(tmp_path / "dance.mp4", *SIZE, FPS, crf=1) as writer:
        for picture in pictures:
            writer.write(picture)
    options = CharacterConfig(condition="canny", frame=2)
    found = followed_edges(options, SIZE, poses, Dance(tmp_path / "dance.mp4", Clip(stride=1)))
    around = place_around_pose(poses[2:3], SIZE)
    agree = [edges_agree(found.drawn, canny(place(picture, around))) for picture in pictures]
    assert agree[2] > 0.97 and max(agree) == agree[2] and found.pose is None
    none = {"prompt": "x", "condition": "canny", "output": tmp_path, "pose": tmp_path / "dance.npz"}
    with pytest.raises(ConfigError, match="canny follows the edges of a picture: name it with control"):
        wanted_of(CharacterConfig.model_validate(none)).decided_by()


def test_what_is_missing_is_told(base, tmp_path, capsys):
    dance, who, nowhere = ["--pose", str(base / "dance.npz")], ["--prompt", "x"], ["-o", str(tmp_path)]
    for words, line in (
        (who, "--driving is missing"),
        (dance, "--prompt is missing"),
        ([*dance, *who, "--controlnext", "some.bin"], "controlnext some.bin without a base"),
        (
            [*dance, *who, "--control", "a.png"],
            "control a.png is a picture of edges: ask for condition canny",
        ),
        ([*dance, *who, "--lora", "a", "--lora-scale", "1", "--lora-scale", "2"], "2 lora_scale for 1 lora"),
    ):
        assert main(["character", *words, *nowhere]) == 2
        assert line in capsys.readouterr().err


def test_the_frame_is_the_users():
    poses = dance()
    for frame in (0, 4):
        pose, taken = asked_pose(frame, poses, (64, 96))
        assert pose.size == (64, 96) and len(pose) == 1 and taken == frame
    with pytest.raises(ConfigError, match="--frame 9: the dance has frames 0 to 5"):
        asked_pose(9, poses, (64, 96))
    gone = poses.scores.copy()
    gone[2] = 0
    with pytest.raises(PoseError, match="nobody is in frame 2"):
        asked_pose(2, PoseSequence(poses.keypoints, gone, SIZE, FPS), (64, 96))


def test_the_best_frame_faces_the_viewer_with_both_hands():
    points = np.zeros((4, NUM_KEYPOINTS, 2), np.float32) + 50
    points[:, [5, 11]] += (20, 0)  # the dancer's left is right of the viewer
    points[:, [11, 12]] += (0, 25)
    scores = np.ones((4, NUM_KEYPOINTS), np.float32)
    scores[0] = 0
    scores[1, 91:112] = 0  # the left hand is hidden
    points[2, [5, 6]] = points[2, [6, 5]]  # from behind
    poses = PoseSequence(points, scores, (200, 200), Fraction(15))
    assert best_frame(poses) == 3
    assert first_frame(poses) == 1
    turned = frontality(poses)
    assert turned[0] == turned[2] == 0 and turned[1] == turned[3] > 0.5
    nobody = PoseSequence(points, 0 * scores, (200, 200), Fraction(15))
    for choose in (best_frame, first_frame):
        with pytest.raises(PoseError, match="nobody is in any frame"):
            choose(nobody)


def test_pose_error_is_in_picture_heights():
    pose = dance(1)
    larger = PoseSequence(2 * pose.keypoints, pose.scores, (2 * SIZE[0], 2 * SIZE[1]), FPS)
    assert pose_error(larger, pose) == pytest.approx(0, abs=1e-6)
    moved = PoseSequence(pose.keypoints + np.float32([0, 0.1 * SIZE[1]]), pose.scores, SIZE, FPS)
    assert pose_error(moved, pose) == pytest.approx(0.1, abs=1e-5)
    assert pose_error(PoseSequence(pose.keypoints, 0 * pose.scores, SIZE, FPS), pose) is None
