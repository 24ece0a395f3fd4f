"""What `bench` prints and writes; the measurements themselves are tested for agreement, never for speed."""

import json
from pathlib import Path

import numpy as np
import pytest

from posedance.pipeline.evaluate.bench import bench
from posedance.pipeline.evaluate.bench import drawing as pose_measure
from posedance.pipeline.evaluate.bench import svd as svd_measure
from posedance.pipeline.evaluate.bench.compare import Comparison, in_turns
from posedance.stages.svd.files.tiny import tiny_random

KEYS = {"schedule_ratio", "control_ratio", "max_rel_diff", "forward_tflop", "draw_ratio", "encode_ratio"}


def test_ways_run_in_turns_and_their_medians_and_worst_difference_count():
    calls, now = [], [0.0]
    costs = {"published": iter([9, 3, 1, 5]), "ours": iter([9, 2, 2, 1])}

    def way(name):
        def run():
            calls.append(name)
            now[0] += next(costs[name])
            return len(calls)

        return run

    result = in_turns(way("published"), way("ours"), lambda a, b: b / 10, 3, lambda: now[0])
    assert calls == ["published", "ours"] * 4
    assert (result.published_s, result.ours_s, result.ratio) == (3, 2, 1.5)
    assert result.max_rel_diff == 0.8


def test_drawing_both_ways_has_the_same_pixels():
    assert pose_measure.compare_drawing(64, 96, repeats=2).max_rel_diff == 0


def test_encoding_both_ways_shows_the_same():
    still = np.full((64, 48, 3), 90, np.uint8)
    comparison = bench.compare_encoding([still] * 3, decode_s=0.001)
    assert comparison.max_rel_diff <= 2 / 255
    assert comparison.published_s > 0 and comparison.ours_s > 0


def test_one_window_both_ways_is_the_same():
    generator = svd_measure.small_generator()
    comparison = svd_measure.compare_windows(generator, 32, 32, num_frames=3, repeats=1)
    assert comparison.max_rel_diff < 1e-3


def test_approximations_are_those_that_fit():
    generator = tiny_random()
    generator.scheduler = {**generator.scheduler, "sigma_max": 80.0}
    found = svd_measure.compare_approximations(generator, side=16, steps=4)
    assert set(found) == set(svd_measure.APPROXIMATIONS) - {"Align Your Steps, 10 for 25 steps"}
    assert all(comparison.max_rel_diff > 0 for comparison in found.values())


def test_presets_and_previews_print_their_distance():
    generator = tiny_random()
    rows = bench.preset_rows(generator, steps=5) | bench.preview_row(generator, num_frames=2)
    assert set(rows) == {"preset preview", "preset best", "latents as colours, not decoded"}
    assert all(0 < row.max_rel_diff < 10 and row.ours_s > 0 for row in rows.values())


def test_bench_writes_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for index, name in enumerate(("compare_schedules", "compare_control")):
        monkeypatch.setattr(svd_measure, name, lambda index=index: Comparison(3.0 + index, 1.0, 1e-6 + index))
    monkeypatch.setattr(svd_measure, "forward_tflop", lambda: 70.0)
    monkeypatch.setattr(svd_measure, "compare_approximations", lambda _: {"half": Comparison(2.0, 1.0, 0.25)})
    monkeypatch.setattr(bench, "preset_rows", lambda _: {"preset quick": Comparison(4.0, 1.0, 0.5)})
    monkeypatch.setattr(bench, "preview_row", lambda _: {"colours": Comparison(90.0, 1.0, 0.75)})
    monkeypatch.setattr(bench, "compare_drawing", lambda: Comparison(5.0, 1.0, 0.0))
    monkeypatch.setattr(bench, "compare_encoding", lambda *_: Comparison(7.0, 1.0, 0.1))
    monkeypatch.setattr(bench, "dancing_frames", lambda _: [])
    printed = bench.bench(tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report.keys() >= KEYS
    assert [report[key] for key in ("schedule_ratio", "control_ratio", "draw_ratio")] == [3, 4, 5]
    assert (report["encode_ratio"], report["forward_tflop"], report["max_rel_diff"]) == (7, 70, 1 + 1e-6)
    assert report["exact"]["drawing"]["published_s"] == 5
    approximate = report["approximate"]
    assert approximate["preset quick, random weights"]["max_rel_diff"] == 0.5
    assert approximate["colours, random weights"]["ratio"] == 90
    assert "half, random weights" in printed and "70.00 TFLOP" in printed
