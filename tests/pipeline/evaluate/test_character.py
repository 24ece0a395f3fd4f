"""What is measured of a painter: true drawings are right, those of others are not, and a sheet shows them."""

import json

import numpy as np
import pytest

from posedance.pipeline.cli import main
from posedance.pipeline.evaluate.character import Wanted, measure, sheet
from posedance.stages.image.convert import save_pictures
from posedance.stages.image.families import new_module
from posedance.stages.image.tiny import NARROW, tiny_pipeline


@pytest.fixture(scope="module")
def wanted():
    return [Wanted(3, number, (80, 128), 432) for number in range(8)]


def test_true_drawings_have_the_asked_colours_and_others_do_not(wanted):
    truths = [one.truth for one in wanted]
    figures = measure(wanted, truths, [0.01, 0.049, 0.051, None, 0.2, 0.0, 0.01, 0.02])
    assert figures["pose_right"] == 5 / 8 and figures["nobody_found"] == 1 / 8
    assert figures["colours_right"] == figures["colours_right_of_truth"] > 0.85
    assert figures["colours_right_of_other_prompts"] < 0.5
    assert figures["edges_agree"] == 1 and figures["edges_agree_with_others"] < 0.6
    gray = measure(wanted, [np.full_like(truth, 128) for truth in truths], [None] * 8)
    assert gray["colours_right"] < 0.5 and gray["pose_right"] == 0
    assert gray["colours_right_of_truth"] == figures["colours_right_of_truth"]


def test_the_sheet_shows_truth_pose_and_picture(wanted):
    made = [np.full((128, 80, 3), 7, np.uint8)] * 8
    drawn = sheet(wanted, made, "pose", count=3, columns=2)
    assert drawn.shape == (256, 480, 3)
    assert np.array_equal(drawn[:128, :80], wanted[0].truth) and (drawn[:128, 160:240] == 7).all()
    assert (drawn[128:, 240:] == 0).all(), "the empty place"


def test_the_command_measures_a_folder(tmp_path):
    pipeline = tiny_pipeline("sd15")
    save_pictures(pipeline, new_module(pipeline.unet, **NARROW), tmp_path / "base")
    figures, drawn = tmp_path / "figures.json", tmp_path / "sheet.png"
    args = ["--base", str(tmp_path / "base"), "--pictures", "2", "--steps", "1", "--guidance-scale", "1"]
    sizes = ["--width", "64", "--height", "96", "--condition", "canny"]
    assert main(["evaluate", "character", *args, *sizes, "--json", str(figures), "--sheet", str(drawn)]) == 0
    found = json.loads(figures.read_text())
    assert {"nobody_found", "edges_agree", "edges_agree_without_control"} < found.keys() and drawn.is_file()


def test_the_shipped_painter_paints_what_it_is_asked_for(tmp_path):
    """Two held-out dancers in held-out poses: both poses are found again, and most colours are right."""
    figures = tmp_path / "figures.json"
    assert main(["evaluate", "character", "--pictures", "2", "--seed", "5", "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["pose_right"] == 1 and found["pose_error_percent"] < 4
    assert found["colours_right"] >= 0.7 > found["colours_right_of_other_prompts"]
