"""What a batch says of itself at its end: what was made, skipped, filtered and given up."""

import json
from pathlib import Path
from typing import Any

import pytest

from posedance.pipeline.batch.batch import batch
from posedance.pipeline.config import BatchConfig


def config(output: Path, **changes: Any) -> BatchConfig:
    """A small batch in this process."""
    return BatchConfig(output=output, model="tiny-random", steps=1, executor="local", **changes)


def test_the_summary_counts_what_was_skipped_filtered_and_given_up(inputs: Path, tmp_path: Path) -> None:
    manifest, output = inputs / "some.csv", tmp_path / "out"
    rows = ["pose,reference,encode.lossless"]
    rows += ["dance1.npz,ref6.png,", "dance1.npz,ref6.png,", "dance1.npz,manifest.csv,"]
    manifest.write_text("\n".join(rows))
    assert batch(config(output, manifest=manifest)) == 3
    summary = json.loads((output / "summary.json").read_text())
    assert summary["filtered"] == {"rows like an earlier one": 1}
    assert summary["skipped"] == {"videos": 0, "steps": 0}
    assert summary["videos"] == {"done": 1, "quarantined": 1}
    (why,) = summary["quarantined"].values()
    assert why["attempts"] == 1 and "manifest.csv is not a picture" in why["error"]

    manifest.write_text("\n".join([*rows, "dance1.npz,ref7.png,true"]))
    assert batch(config(output, manifest=manifest)) == 3
    summary = json.loads((output / "summary.json").read_text())
    assert summary["skipped"] == {"videos": 1, "steps": 3}, "the dance's poses, the size and the settings too"
    assert summary["videos"] == {"done": 2, "quarantined": 1}
    assert summary["steps"]["latents"]["done"] == 1
    page = (output / "index.html").read_text()
    assert "skipped, for they were done before: 1 videos, 3 steps of others" in page
    assert "filtered: 1 rows like an earlier one" in page
    assert "2 of 3 videos done, 1 given up, 0 waiting, 0 attempts repeated" in page
    assert sorted(part.split('"')[0] for part in page.split('<a href="')[1:] if "result" in part[:60]) == [
        "dance1--ref6/result.mp4", "dance1--ref7--encode.lossless-true/result.mkv"
    ]  # fmt: skip
    assert page.count('<section class="done">') == 2 and page.count('<section class="quarantined">') == 1


def test_files_of_another_kind_are_counted_as_filtered(inputs: Path, tmp_path: Path) -> None:
    dances, output = tmp_path / "dances", tmp_path / "out"
    dances.mkdir()
    (dances / "broken.mp4").write_bytes(b"no video")
    (dances / "notes.txt").touch()
    assert batch(config(output, driving=dances, reference=inputs / "ref6.png")) == 3
    summary = json.loads((output / "summary.json").read_text())
    assert summary["filtered"] == {"files of another kind": 1}
    assert summary["videos"] == {"quarantined": 1} and list(summary["quarantined"]) == ["broken--ref6"]
    assert "filtered: 1 files of another kind" in (output / "index.html").read_text()


def test_files_that_only_tell_of_a_batch_never_end_it(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder lies where each of them belongs."""
    for name in ("index.html", "events.jsonl", "summary.json", ".work/progress.json"):
        (tmp_path / name).mkdir(parents=True)
    (inputs / "one.csv").write_text("pose,reference\ndance1.npz,ref6.png\n")
    assert batch(config(tmp_path, manifest=inputs / "one.csv")) == 0
    assert (tmp_path / "dance1--ref6" / "result.mp4").exists()
    for name in ("index.html", "events.jsonl", "summary.json", "progress.json"):
        assert sum(f"the batch goes on without {name}" in line for line in caplog.messages) == 1
