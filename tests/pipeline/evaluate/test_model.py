"""The measures of a model: the truth passes every bar and a copy of the reference fails."""

import json

import numpy as np
import pytest

from posedance.datasets.puppets.render import PARTS
from posedance.pipeline.evaluate.model import EvaluateConfig, draw_sheet, evaluate_model, held_out, measure

KEYS = {
    "part_error_percent",
    "part_error_vs_shuffled",
    "psnr",
    "ssim",
    "colour_accuracy",
    "flicker",
    "seam_score",
    "face_psnr",
    "ghost",
    "hands_found",
    "finger_error_percent",
}


@pytest.fixture(scope="module")
def clips():
    return [held_out(5, number, frames=16, size=(54, 96), canvas=216) for number in range(2)]


def test_the_truth_passes_every_bar(clips):
    figures = measure(clips, [clip.frames[1:] for clip in clips], joints=[8])
    assert figures["part_error_percent"] < 1.5
    assert figures["part_error_vs_shuffled"] < 0.4
    assert figures["wrist_hit"] == 1
    assert figures["wrist_hit_shuffled"] < 0.6
    assert figures["colour_accuracy"] == 1
    assert figures["flicker"] == pytest.approx(1)
    assert figures["seam_score"] == pytest.approx(1)


def test_a_copy_of_the_reference_fails(clips):
    copies = [np.repeat(clip.frames[:1], 16, axis=0) for clip in clips]
    figures = measure(clips, copies, joints=[8])
    assert figures["part_error_vs_shuffled"] > 0.7
    assert figures["psnr"] == pytest.approx(figures["psnr_of_reference"])
    assert figures["flicker"] < 0.1


def test_other_characters_colours_are_told_apart(clips):
    swapped = [clips[1].frames[1:], clips[0].frames[1:]]
    assert measure(clips, swapped, joints=[8])["colour_accuracy"] < 0.5


def test_a_seed_draws_the_same_clip_again(clips):
    again = held_out(5, 1, frames=16, size=(54, 96), canvas=216)
    assert np.array_equal(again.frames, clips[1].frames)
    assert not np.array_equal(again.frames, clips[0].frames)


@pytest.mark.parametrize("half_body", ["driving", "reference", "both"])
def test_the_truth_of_half_bodies_passes_every_bar(half_body):
    halves = [held_out(5, n, frames=8, size=(54, 96), canvas=216, half_body=half_body) for n in range(2)]
    shoes = [np.isin(clip.parts, [PARTS.index("left_shoe"), PARTS.index("right_shoe")]) for clip in halves]
    assert all(mask.any() == (half_body == "driving") for mask in shoes)
    figures = measure(halves, [clip.frames[1:] for clip in halves], joints=[4])
    assert figures["part_error_percent"] < 1.5
    assert figures["colour_accuracy"] == 1
    assert not figures["wrist_hit"] < 1  # NaN where no wrist is in the picture
    assert np.isnan(figures["part_error_feet_percent"]) == (half_body != "driving")


def test_the_sheet_has_a_row_for_each_clip(clips):
    sheet = draw_sheet(clips, [clip.frames[1:] for clip in clips], columns=3, zoom=1)
    assert sheet.shape == (2 * 96, (1 + 3 * 3) * 54, 3)


def test_a_model_is_measured_by_its_name(tmp_path):
    config = EvaluateConfig(
        model="tiny-random",
        clips=2,
        frames=4,
        steps=1,
        json_file=tmp_path / "figures.json",
        sheet=tmp_path / "sheet.png",
    )
    figures = evaluate_model(config)
    assert set(figures) >= KEYS
    assert json.loads((tmp_path / "figures.json").read_text())["psnr"] == pytest.approx(figures["psnr"])
    assert (tmp_path / "sheet.png").stat().st_size > 1000
