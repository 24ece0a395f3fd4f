"""`batch --dry-run`: it counts what the batch then does, and touches nothing."""

import json
from pathlib import Path

import pytest
from helpers import add_dance, add_picture, small_batch

from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.dry_run import Work, dry_run, gpu_hours
from posedance.pipeline.cost import ONE_WINDOW
from posedance.stages.errors import ConfigError


def said(text: str) -> dict[str, list[str]]:
    """The words behind the first word of each line."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def test_what_is_counted_is_what_the_batch_then_makes(tmp_path: Path) -> None:
    for number in (1, 2):
        add_dance(tmp_path, f"dance{number}", number)
        add_picture(tmp_path, f"ref{number}", number)
    (tmp_path / "broken.mp4").write_text("no video")
    rows = ("pose,driving,reference", "dance1.npz,,ref1.png", "dance1.npz,,ref2.png", ",broken.mp4,ref1.png")
    manifest = tmp_path / "videos.csv"
    manifest.write_text("\n".join(rows))
    job = small_batch(manifest, tmp_path / "out", attempts=1, keep="all")
    text = dry_run(job)
    assert not (tmp_path / "out").exists()
    before = said(text)
    assert text.startswith("videos    3: 0 done, 3 to make, 0 given up before\n")
    assert before["frames"] == [
        "8",
        "to",
        "denoise",
        "in",
        "2",
        "windows:",
        "4",
        "calls",
        "of",
        "the",
        "UNet",
    ]
    assert before["poses"] == ["2", "0"] and before["reference"] == ["2", "0"]
    assert before["latents"] == ["3", "0"]
    assert "cannot be made: broken--ref1: " in text and "broken.mp4" in text
    assert "bench.json" in text.split("GPU hours")[1]

    assert batch(job) == 3
    text = dry_run(job)
    assert text.startswith("videos    3: 2 done, 0 to make, 1 given up before\n")
    assert said(text)["frames"][0] == "0"
    again = said(dry_run(job.model_copy(update={"force": "result"})))
    assert again["result"] == ["3", "0"] and again["control"] == ["1", "2"]
    longer = said(dry_run(job.model_copy(update={"steps": 3})))
    assert longer["latents"] == ["3", "0"] and longer["control"] == ["1", "2"]


def test_gpu_hours_are_told_by_the_bench_that_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert gpu_hours(Work(calls=10)).startswith("unknown")
    Path("bench.json").write_text(json.dumps({"gpu": {}}))
    assert gpu_hours(Work(calls=10)).startswith("unknown"), "it was made without a GPU"
    Path("bench.json").write_text(json.dumps({"gpu": {ONE_WINDOW: {"ours_s": 0.36}}}))
    told = gpu_hours(Work(calls=30_000, measured_calls=20_000))
    assert told.startswith("2.00, by 0.360 s") and "10,000 calls" in told
    Path("bench.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"bench\.json"):
        gpu_hours(Work(calls=10))
