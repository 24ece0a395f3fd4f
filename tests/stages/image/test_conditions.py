"""Condition pictures: edges and preprocessing as published, pose, mask, depth, the low-resolution picture."""

import json
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from posedance.datasets.puppets.render import make_character, reference_pose, render
from posedance.stages import make_condition
from posedance.stages.errors import ConfigError, PoseError
from posedance.stages.image import conditions
from posedance.stages.media.picture import write_png
from posedance.stages.pose.base import Detections
from posedance.stages.pose.estimate import segmentation
from posedance.stages.pose.render import draw_control_frames
from posedance.stages.types import PoseSequence


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_golden_canny(golden):
    """Every output has its input's name, or is made of case 0 with the thresholds in its name."""
    folder = golden / "canny"
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}")
    outputs = sorted(folder.glob("*_output*.png"))
    assert outputs
    for path in outputs:
        thresholds = [int(n) for n in re.findall(r"_(\d+)", path.stem.partition("_output")[2])]
        given = folder / f"{path.stem.partition('_output')[0]}_input.png"
        picture = read(given if given.is_file() else folder / "case0_input.png")
        np.testing.assert_array_equal(conditions.canny(picture, *thresholds), read(path), err_msg=path.name)


def test_golden_preprocessing(golden):
    folder = golden / "condition_preprocessing"
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}")
    cases = np.load(folder / "cases.npz")
    for path in sorted(folder.glob("case*_input_*.png")):
        case = path.stem.partition("_")[0]
        asked = [int(side) or None for side in cases[f"{case}_width_height"]]
        given = asked if asked != list(read(path).shape[1::-1]) else [None, None]
        ours = conditions.to_tensor(read(path), *given)
        np.testing.assert_array_equal(ours, cases[f"{case}_script"], err_msg=path.name)
        assert ours.is_contiguous()


def test_a_condition_that_is_too_small_is_refused():
    with pytest.raises(ConfigError, match="is 7x9: 8x8 pixels are the least"):
        conditions.to_tensor(np.zeros((9, 7, 3), np.uint8))


@pytest.fixture(scope="module")
def puppet():
    return render(make_character(5), reference_pose(5), 0, 144, 256)


def test_pose_is_our_drawing(puppet):
    poses = PoseSequence(puppet.keypoints[None], puppet.scores[None], (144, 256), Fraction(1))
    drawn = conditions.pose(poses=poses, size=(72, 128), canvas=144)
    np.testing.assert_array_equal(drawn, next(iter(draw_control_frames(poses, 72, 128, 144))))

    class Found:
        """An estimator that finds this dancer."""

        def start(self, *, static):
            assert static

        def __call__(self, frames):
            return [Detections(poses.keypoints, poses.scores) for _ in frames]

    np.testing.assert_array_equal(
        conditions.pose(puppet.image, Found()), next(iter(draw_control_frames(poses, 144, 256)))
    )
    with pytest.raises(ConfigError, match="needs poses, or a picture and an estimator"):
        conditions.pose(puppet.image)


def test_mask_shows_the_person(samples):
    picture = cv2.resize(read(samples / "ref_03.jpeg"), (192, 256), interpolation=cv2.INTER_AREA)
    found = conditions.mask(picture)
    assert set(np.unique(found)) == {0, 255} and found.shape == picture.shape
    assert found[80:160, 70:120].mean() > 250, "the chest"
    assert found[:40, :20].max() == 0, "a corner above"


def test_mask_needs_a_mediapipe_with_models(monkeypatch):
    monkeypatch.setattr(segmentation, "SEGMENTER", Path("modules", "of a later wheel"))
    with pytest.raises(PoseError, match="give the mask as a picture"):
        conditions.mask(np.zeros((8, 8, 3), np.uint8))


def test_near_is_violet_and_far_is_yellow(tmp_path):
    near = np.linspace(3, -1, 64)[None].repeat(4, 0)
    coloured = conditions.colour_depth(near)
    assert np.abs(coloured[0, 0].astype(int) - (68, 1, 84)).max() <= 1
    assert np.abs(coloured[0, -1].astype(int) - (253, 231, 37)).max() <= 1
    assert conditions.colour_depth(np.ones((2, 2))).shape == (2, 2, 3)
    gray = np.repeat(np.linspace(255, 0, 64).astype(np.uint8)[None, :, None].repeat(8, 0), 3, 2)
    write_png(tmp_path / "gray.png", gray)
    write_png(tmp_path / "coloured.png", coloured.repeat(2, 0))
    of_gray, of_coloured = (
        make_condition("depth", gray, 64, 8, depth_file=tmp_path / name)
        for name in ("gray.png", "coloured.png")
    )
    assert (of_gray - of_coloured).abs().max() <= 4 / 255
    np.testing.assert_allclose(of_coloured[0, :, 0, 0], np.array((68, 1, 84)) / 255, atol=1.5 / 255)


def test_depth_by_a_model_in_a_folder(tmp_path):
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    torch.manual_seed(0)
    DPTForDepthEstimation(config).save_pretrained(tmp_path / "model")
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "model")
    picture = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    assert conditions.depth(picture, tmp_path / "model").shape == picture.shape
    (tmp_path / "none").mkdir()
    (tmp_path / "none/config.json").write_text(json.dumps({}))
    with pytest.raises(ConfigError, match="is no depth-estimation model") as told:
        conditions.depth(picture, tmp_path / "none")
    assert "\n" not in str(told.value)


def test_low_resolution_has_the_wanted_size(puppet):
    small = cv2.resize(puppet.image, (36, 64), interpolation=cv2.INTER_AREA)
    enlarged = conditions.low_resolution(small, 144, 256)
    assert enlarged.shape == puppet.image.shape
    assert np.abs(enlarged.astype(int) - puppet.image).mean() < 12


def test_every_kind_has_the_size_of_the_picture_to_be(puppet):
    for kind in ("canny", "mask", "low-resolution"):
        made = make_condition(kind, puppet.image, 72, 128)
        assert made.shape == (1, 3, 128, 72) and 0 <= made.min() <= made.max() <= 1
    with pytest.raises(ConfigError, match="no condition 'dance': use one of canny, pose"):
        make_condition("dance", puppet.image, 72, 128)
    with pytest.raises(ConfigError, match="depth needs depth_file"):
        make_condition("depth", puppet.image, 72, 128)


def test_edges_agree_within_two_pixels():
    drawn = np.zeros((40, 40, 3), np.uint8)
    drawn[20] = 255
    assert conditions.is_edges(drawn) and not conditions.is_edges(drawn // 2)
    assert not conditions.is_edges(np.where(drawn, drawn, (0, 0, 255)).astype(np.uint8))
    for moved, agree in ((2, 1.0), (3, 0.0)):
        assert conditions.edges_agree(np.roll(drawn, moved, axis=0), drawn) == pytest.approx(agree)
    both = np.maximum(drawn, np.roll(drawn, 10, axis=0))
    assert conditions.edges_agree(both, drawn) == pytest.approx(2 / 3)
    assert conditions.edges_agree(0 * drawn, drawn) == 0
