"""What a batch says of itself at its end: what was made, skipped, filtered and given up."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import listed

from posedance.pipeline.animate.graph import GRAPH
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.index import write_index
from posedance.pipeline.batch.status import (
    SHOWN,
    ItemState,
    items_path,
    progress_path,
    quarantine_path,
    report,
    status,
)
from posedance.pipeline.config import BatchConfig
from posedance.pipeline.job.job import hold
from posedance.pipeline.workers.shards import BEATS


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
    (name, state, reason), *made = listed(output)
    assert (name, state) == ("dance1--manifest", "quarantined") and "is not a picture" in reason
    assert made == [
        ["dance1--ref6", "done", "result.mp4"],
        ["dance1--ref7--encode.lossless-true", "done", "result.mkv"],
    ]


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


def test_the_index_of_many_videos_is_a_list_that_a_script_shows(tmp_path: Path) -> None:
    """A name or an error never gets out of the list, whatever is in it."""
    states = [ItemState(f"dance{number:05d}", "waiting") for number in range(10_000)]
    states.append(ItemState("bad", "quarantined", "poses", '</script><b>no @VIDEOS@, no "person"', 2))
    write_index(tmp_path, states, ["the sum of <it>"])
    page = (tmp_path / "index.html").read_text()
    assert page.count("<video") == 0 and len(page) < 1_000_000
    assert page.count("<script") == page.count("</script>") == 2 and "the sum of &lt;it&gt;" in page
    (first, *others) = listed(tmp_path)
    assert first == ["bad", "quarantined", "poses, after 2 attempts: " + states[-1].error]
    assert others == [[state.name, "waiting", "not made yet"] for state in states[:-1]]


def test_status_is_short_and_tells_when_the_batch_ends(tmp_path: Path) -> None:
    """Of 100 videos 30 were given up in an hour, and 20 made; a driver holds the lock."""
    keys = {name: {step.name: f"{name} {step.name}" for step in GRAPH} for name in map(str, range(100))}
    for name in map(str, range(30)):
        why = {"keys": keys[name], "stage": "poses", "error": "no person", "attempts": 2}
        quarantine_path(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        quarantine_path(tmp_path, name).write_text(json.dumps(why))
    items_path(tmp_path, "").write_text(json.dumps(keys))
    for number in range(25):
        beat = tmp_path / BEATS / "all" / f"{number}.json"
        beat.parent.mkdir(parents=True, exist_ok=True)
        beat.write_text(json.dumps({"task": f"t{number}", "what": "x", "done": 1, "total": 2, "time": 0}))
    progress = {"began": time.time() - 3600, "ended": None, "videos": [20, 50], "stages": {}}
    progress_path(tmp_path, "").write_text(json.dumps(progress))
    with hold(tmp_path, tmp_path / ".work" / "lock"):
        text, told = status(tmp_path), report(tmp_path)
    assert "100 videos: 0 done, 30 given up, 70 waiting; running" in text
    assert "20.0 videos an hour, about 2:30:0" in text
    assert text.count("given up: ") == SHOWN and "and 10 more: --json tells all" in text
    assert text.count(" 1 of 2") == SHOWN and "and 5 more" in text
    assert told["videos"] == {"all": 100, "done": 0, "quarantined": 30, "waiting": 70}
    assert abs(told["eta_seconds"] - 9000) < 10 and len(told["given_up"]) == 30 and len(told["workers"]) == 25
    ended = report(tmp_path)
    assert ended["running"] is False and ended["eta_seconds"] is None and not ended["workers"]
