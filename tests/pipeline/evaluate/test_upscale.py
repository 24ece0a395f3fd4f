"""How enlarging is measured: the truth has no fault; what shakes or is blurred shows in its figure."""

import json

import numpy as np
import pytest

from posedance.pipeline.evaluate.upscale import (
    EvaluateUpscaleConfig,
    dance,
    enlarged,
    evaluate_upscale,
    measured,
    shrunk,
)
from posedance.pipeline.upscale.enlarge import Enlarging
from posedance.stages.errors import ConfigError


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return dance(EvaluateUpscaleConfig(width=72, height=128, frames=5), 0)


def test_each_fault_shows_in_its_own_figure(truth):
    best = {"psnr": 120.0, "detail": 1.0, "change": 1.0, "flicker": 1.0, "unsteady": 0.0}
    assert measured(truth, truth) == best
    rng = np.random.default_rng(0)
    still = np.clip(truth + rng.normal(0, 8, truth.shape[1:]), 0, 255).astype(np.uint8)
    shaking = np.clip(truth + rng.normal(0, 8, truth.shape), 0, 255).astype(np.uint8)
    assert measured(still, truth)["unsteady"] < 0.3 * measured(shaking, truth)["unsteady"]
    assert measured(shaking, truth)["flicker"] > 1.5 and measured(shaking, truth)["change"] > 1.5
    assert abs(measured(still, truth)["psnr"] - measured(shaking, truth)["psnr"]) < 0.5
    blurred = shrunk(np.repeat(np.repeat(shrunk(truth, 2), 2, 1), 2, 2), 1)
    assert measured(blurred, truth)["psnr"] < 40


def test_a_painter_that_knows_the_truth_but_shakes_is_steadied_by_its_neighbours(truth):
    config = EvaluateUpscaleConfig(width=72, height=128, frames=5)
    rng = np.random.default_rng(1)
    shaking = np.clip(truth + rng.normal(0, 8, truth.shape), 0, 255).astype(np.uint8)
    made = enlarged(Enlarging(config, 2, "cpu", None), shrunk(truth, 2), lambda how, frames: iter(shaking))
    figures = {way: measured(frames, truth) for way, frames in made.items()}
    assert list(figures) == ["lanczos", "each_frame_alone", "with_neighbours"]
    assert figures["lanczos"]["detail"] < 0.8
    assert figures["with_neighbours"]["unsteady"] < 0.75 * figures["each_frame_alone"]["unsteady"]
    assert figures["with_neighbours"]["psnr"] > figures["each_frame_alone"]["psnr"] + 1.5


def test_figures_and_sheet_are_written(tmp_path):
    config = EvaluateUpscaleConfig(
        width=64, height=96, frames=3, clips=1, steps=1, tile=64, overlap=0, sheet=tmp_path / "sheet.png"
    )
    figures = evaluate_upscale(config.model_copy(update={"json_file": tmp_path / "figures.json"}))
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert figures["psnr_gain"] < 0, "random weights paint noise"
    assert (tmp_path / "sheet.png").is_file()
    with pytest.raises(ConfigError, match="65x96 is no multiple of the factor 2"):
        evaluate_upscale(config.model_copy(update={"width": 65}))
