"""The models for pictures that are part of the package: small, complete, and what they make is true."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from posedance.datasets.clips import HELD_OUT
from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.datasets.puppets.words import describe
from posedance.stages import load_pictures
from posedance.stages.errors import ConfigError
from posedance.stages.image.conditions import canny, edges_agree, low_resolution, to_tensor
from posedance.stages.image.models import PAINTERS, SHIPPED, defaults_of
from posedance.stages.image.paint import PaintSettings, paint
from posedance.stages.image.upscale import upscale_frame
from posedance.stages.quality import psnr

LARGEST = 6_000_000
"""Bytes of the shipped models for pictures together."""


def test_they_are_small_and_complete():
    folders = [Path(model.base) for model in PAINTERS.values() if model.trained]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert folders and all(folder.parent == SHIPPED for folder in folders)
    assert sum(file.stat().st_size for file in files) < LARGEST
    for folder in folders:
        names = {str(file.relative_to(folder)) for file in files if file.is_relative_to(folder)}
        assert {"README.md", "training.json", "model_index.json", "pictures.json"} <= names


@pytest.fixture(scope="module")
def upscaler():
    return load_pictures(PAINTERS["upscale"].base)


def settings(task) -> PaintSettings:
    own = defaults_of(task, None)
    return PaintSettings("", "", int(own["steps"]), float(own["guidance_scale"]), 1.0, float(own["strength"]))


@pytest.mark.parametrize("seed", [3, 8])
def test_the_upscaler_beats_lanczos(upscaler, seed):
    """The head and shoulders of a held-out dancer, enlarged in one tile."""
    character, motion = make_character(HELD_OUT + seed), make_motion(HELD_OUT + seed, Fraction(15))
    drawn = render(character, motion, 30, 432, 768)
    x, y = drawn.keypoints[0].astype(int)
    top, left = max(y - 96, 0), int(np.clip(x - 128, 0, 432 - 256))
    cut = drawn.image[top : top + 256, left : left + 256]
    truth, small = (cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA) for side in (128, 64))
    made = upscale_frame(*upscaler, small, 2, settings("upscale"), 0, 128, 32)
    plain = low_resolution(small, 128, 128)
    assert psnr(made[None], truth[None]) > psnr(plain[None], truth[None]) + 1.5
    again = upscale_frame(*upscaler, small, 2, settings("upscale"), 0, 128, 32)
    assert np.array_equal(made, again)


def test_the_painter_follows_edges():
    """Those of a held-out dancer, with the second control module, and much less without it."""
    model = PAINTERS["character"]
    painter = load_pictures(model.base, model.canny, [Path(model.canny) / "unet.safetensors"])
    character, motion = make_character(HELD_OUT + 4), make_motion(HELD_OUT + 4, Fraction(15))
    truth = cv2.resize(render(character, motion, 30, 160, 256).image, (80, 128), interpolation=cv2.INTER_AREA)
    edges, prompt = canny(truth), describe(character)
    agree = []
    for scale in (1.0, 0.0):
        asked = PaintSettings(prompt, "", 10, 1.0, scale, 1.0)
        agree.append(edges_agree(canny(paint(*painter, to_tensor(edges), asked, 0)), edges))
    assert agree[0] > 0.5 > 1.3 * agree[1]


def test_a_tile_that_is_too_large_is_refused_in_one_line(upscaler):
    frame = np.zeros((128, 128, 3), np.uint8)
    with pytest.raises(ConfigError, match="tile 256: this model sees at most 128 pixels at once"):
        upscale_frame(*upscaler, frame, 2, settings("upscale"), 0, 256, 32)
