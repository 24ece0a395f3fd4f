"""The GPU benchmark runs from beginning to end: at toy size, on the CPU, where its figures mean nothing."""

import json
import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("gpu.py")


def test_every_row_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # which would take minutes
    bench = runpy.run_path(str(SCRIPT))
    bench["main"](["--tiny", "--compile", "--device", "cpu", "--json", str(tmp_path / "gpu.json")])
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert not [name for name, row in rows.items() if row["seconds"] is None]
    exact = [*bench["LEVERS"], bench["LEAN"]]
    assert all(rows[name]["max_rel_diff"] < 0.1 for name in exact)  # bfloat16
    assert report["ratios"].keys() >= {"shipped_ratio", "same_precision_ratio", "control_overhead", "mfu"}
    assert "cross-attention over one token" in capsys.readouterr().out


def test_rows_without_time_or_that_fail_say_so(tmp_path: Path) -> None:
    bench = runpy.run_path(str(SCRIPT))
    bench["main"](["--tiny", "--device", "cpu", "--minutes", "0", "--json", str(tmp_path / "gpu.json")])
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["note"] for row in report["rows"]} == {"left out: no time"}
    assert report["ratios"] == {}
