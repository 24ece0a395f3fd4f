"""Decisions, from scores and bounds alone; and what is drawn and written of them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedance.datasets.curation.clip import Box
from posedance.datasets.curation.scores import LEVELS, SCORES, Score
from posedance.pipeline.config import read_yaml, resolve
from posedance.pipeline.curate.config import CurateConfig
from posedance.pipeline.curate.decide import counted, filters_of, first_refusal, next_level, passes
from posedance.pipeline.curate.encode import cropped, encoded_size
from posedance.pipeline.curate.examples import colourfulness
from posedance.pipeline.curate.histogram import draw_histogram
from posedance.pipeline.curate.measuring import clip_rate
from posedance.pipeline.curate.store import keys_of
from posedance.pipeline.curate.table import Row, read_table, write_table
from posedance.stages.types import PoseSequence

CONFIGS = Path(__file__).parents[3] / "configs" / "curate"
FILTERS = (
    Score("length", "probe", float, 2.0, None, "too short"),
    Score("light", "frames", float, 10, 20, "too dark or too bright"),
    Score("sharp", "frames", float, 0.5, None, "blurred"),
    Score("people", "sparse", float, 1, 1, "not one person"),
    Score("hands", "dense", bool, 1, None, "hands hidden"),
)


def test_the_first_filter_that_refuses_is_the_reason() -> None:
    assert first_refusal(FILTERS, {"length": 2.0, "light": 15, "sharp": 0.4}) is FILTERS[2]
    assert first_refusal(FILTERS, {"sharp": 0.4, "light": 21}) is FILTERS[1], "in the order of the table"
    assert first_refusal(FILTERS, {"hands": False}) is FILTERS[4]
    assert first_refusal(FILTERS, {"light": float("nan")}) is FILTERS[1]
    assert first_refusal(FILTERS, {"hands": True, "length": 2.0}) is None


def test_levels_are_measured_one_after_the_other_until_one_refuses() -> None:
    measured: dict[Any, Any] = {"probe": {"length": 3}}
    assert next_level(FILTERS, measured) == "frames"
    measured["frames"] = {"light": 5, "sharp": 0.9}
    assert next_level(FILTERS, measured) is None and next_level(FILTERS, measured, forced=True) == "sparse"
    measured |= {"sparse": {"people": 1}, "dense": {"hands": True}}
    assert not passes(FILTERS, measured) and passes(FILTERS, measured, forced=True)
    assert counted(FILTERS, measured) == {"length": 3, "light": 5, "sharp": 0.9}
    measured["frames"] = {"light": 15, "sharp": 0.9}
    assert passes(FILTERS, measured) and next_level(FILTERS, measured) is None
    assert list(counted(FILTERS, measured)) == [score.name for score in FILTERS]


def test_every_row_of_the_table_of_scores_has_its_bounds_in_the_config(tmp_path: Path) -> None:
    config = CurateConfig()
    for score in filters_of(config):
        row = next(one for one in SCORES if one.name == score.name)
        assert (score.at_least, score.at_most) == (row.at_least, row.at_most)
    levels = [LEVELS.index(score.level) for score in filters_of(config)]
    assert levels == sorted(levels)
    (tmp_path / "c.yaml").write_text("thresholds: {exposure: {at_most: null}, sharpness: {at_least: 0.6}}\n")
    changed = {s.name: s for s in filters_of(resolve(CurateConfig, CurateConfig(), tmp_path / "c.yaml"))}
    default = {s.name: s for s in SCORES}
    assert changed["exposure"].at_most is None
    assert changed["exposure"].at_least == default["exposure"].at_least
    assert changed["sharpness"].at_least == 0.6


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ({"thresholds": {"sharpness": {"at_least": 0.9}}}, set()),
        ({"per_shard": 7, "limit": 3, "executor": "local"}, set()),
        ({"longest": "10"}, {"clips"}),
        ({"estimator": {"name": "rtmw"}}, {"sparse", "dense", "encoded", "guide"}),
        ({"fps": 30}, {"dense", "encoded", "guide"}),
        ({"width": 512}, {"encoded", "guide"}),
        ({"encode": {"crf": 20}}, {"encoded", "guide"}),
        ({"captions": "posedance.pipeline.curate.examples.describe"}, {"encoded"}),
        ({"aesthetics": {"function": "posedance.pipeline.curate.examples.colourfulness"}}, {"frames"}),
    ],
)
def test_only_what_an_option_decides_is_made_again(change: dict[str, Any], touched: set[str]) -> None:
    before, after = keys_of(CurateConfig()), keys_of(CurateConfig.model_validate(change))
    assert {step for step in before.decided if before.of(step, "x") != after.of(step, "x")} == touched


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        ("30", "30"),
        ("60", "30"),
        ("60000/1001", "30000/1001"),
        ("25", "25"),
        ("50", "25"),
        ("31", "31"),
        ("120", "30"),
    ],
)
def test_rates_stay_exact(fps: str, rate: str) -> None:
    assert clip_rate(Fraction(fps), Fraction(30)) == Fraction(rate)


def test_what_is_written_of_a_crop_is_even_and_never_enlarged() -> None:
    assert encoded_size(Box(0, 0, 1080, 1920), (576, 1024)) == (576, 1024)
    assert encoded_size(Box(10, 10, 298, 522), (576, 1024)) == (288, 512)
    points = np.zeros((1, 133, 2), np.float32)
    points[0, 0] = 100, 60
    scores = np.zeros((1, 133), np.float32)
    scores[0, 0] = 1
    cut = cropped(PoseSequence(points, scores, (200, 200), Fraction(30)), Box(50, 20, 150, 120), (50, 50))
    assert cut.keypoints[0, 0].tolist() == [25, 20] and not cut.keypoints[0, 1:].any()
    assert cut.size == (50, 50)


def test_the_same_rows_give_the_same_bytes_and_come_back(tmp_path: Path) -> None:
    rows = [
        Row("a.mp4", "rejected", "empty: 0 bytes"),
        Row("b.mp4", "kept", None, "ab", 3, 33, Fraction(30000, 1001), {"light": 1.5, "hands": True},
            crop=(0, 2, 10, 20), shard="shard-00000.tar", key="b-1"),
    ]  # fmt: skip
    for name in ("1", "2"):
        write_table(tmp_path / name, rows, ["light", "sharp", "hands"])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    first, second = read_table(tmp_path / "1")
    assert first["start_frame"] is None and first["score_light"] is None and first["status"] == "rejected"
    assert second["end_s"] == pytest.approx(1.1011) and second["score_hands"] is True
    assert [second[f"crop_{side}"] for side in ("x0", "y0", "x1", "y1")] == [0, 2, 10, 20]


def test_a_histogram_shows_its_bounds_and_lone_values() -> None:
    drawn = draw_histogram(np.array([0.1, 0.2, 0.2, np.nan]), 0.5, None)
    assert drawn.count("<line") == 1 and ">0.5<" in drawn and drawn.count("<rect") == 2
    assert draw_histogram(np.array([3.0]), None, None).count("<rect") == 1
    assert "<rect" not in draw_histogram(np.array([np.nan]), 1.0, None)


def test_colourfulness_is_none_in_grey_and_grows_with_colour() -> None:
    grey = np.full((2, 8, 8, 3), 90, np.uint8)
    mixed = grey.copy()
    mixed[:, :4] = 255, 0, 0
    assert colourfulness(grey) == 0 < 45 < colourfulness(mixed)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=str)
def test_shipped_configs_hold_only_differences_that_exist(path: Path) -> None:
    config = resolve(CurateConfig, CurateConfig(), path)
    default = CurateConfig()
    differs = [key for key in read_yaml(path) if getattr(config, key) != getattr(default, key)]
    assert differs == list(read_yaml(path))
