"""From a folder of raw videos to shards: what the table says, what is read again, and what training gets."""

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from curations import LENGTH, config_of, results, rows, spoil

from posedance.datasets.clip_shards import shard_sources
from posedance.datasets.clips import Clip, ClipSpec
from posedance.datasets.video_clips import VideoClips, published_sources
from posedance.pipeline.cli import main
from posedance.pipeline.curate import copies
from posedance.pipeline.curate.copies import load_compared
from posedance.pipeline.curate.curate import curate, read_states
from posedance.pipeline.curate.sources import find_sources
from posedance.pipeline.curate.states import Known
from posedance.pipeline.curate.status import status
from posedance.pipeline.curate.store import compared_of
from posedance.pipeline.train.data import DataConfig, open_clips
from posedance.stages.media import video
from posedance.stages.media.video import read_frames
from posedance.stages.pose.files import load_poses
from posedance.stages.pose.render import draw_control_frames

COLUMNS = ["source", "source_sha256", "start_frame", "end_frame", "start_s", "end_s", "status", "reason"]
LAST = ["duplicate_of", "crop_x0", "crop_y0", "crop_x1", "crop_y1", "shard", "key"]
SPEC = ClipSpec(width=36, height=64, canvas=216, frames=2, spacing=3)


def test_the_table_has_a_row_for_every_clip_and_says_what_became_of_it(curated: Path) -> None:
    found = rows(curated)
    assert list(found) == [
        ("below/three.v2.mp4", 0), ("still.mp4", 0), ("two.mp4", 0), ("two.mp4", LENGTH), ("zz-again.mp4", 0),
    ]  # fmt: skip
    columns = list(found["two.mp4", 0])
    scores = columns[len(COLUMNS) : -len(LAST)]
    assert columns[: len(COLUMNS)] == COLUMNS and columns[-len(LAST) :] == LAST
    assert all(name.startswith("score_") for name in scores)
    kept = found["two.mp4", 0]
    assert (kept["status"], kept["end_frame"], kept["end_s"]) == ("kept", LENGTH, LENGTH / 15)
    assert all(kept[name] is not None for name in (*scores, "shard", "key", "crop_x0"))
    assert (kept["crop_x1"] - kept["crop_x0"]) / (kept["crop_y1"] - kept["crop_y0"]) == pytest.approx(
        144 / 256, abs=0.01
    )
    still = found["still.mp4", 0]
    assert (still["status"], still["reason"], still["shard"]) == ("rejected", "frozen", None)
    assert still["score_sharpness"] is not None and still["score_body"] is None, "cheap levels refuse first"
    again, first = found["zz-again.mp4", 0], found["below/three.v2.mp4", 0]
    assert (again["status"], again["duplicate_of"]) == ("duplicate", first["key"])
    assert first["status"] == "kept" and "." not in first["key"]


def test_training_reads_the_shards(curated: Path) -> None:
    clips = VideoClips(SPEC, *shard_sources(curated / "shards"))
    assert clips.bad == [] and isinstance(clips[0], Clip)
    kept = {row["key"]: row for row in rows(curated).values() if row["status"] == "kept"}
    assert {source.name for source in clips.sources} == set(kept)
    data = DataConfig(shards=curated / "shards", width=36, height=64, canvas=216, frames=2, spacing=3)
    assert len(open_clips(data)) == len(clips)
    for key, row in kept.items():
        with tarfile.open(curated / "shards" / row["shard"]) as tar:
            assert tar.getnames() == [f"{key}.json", f"{key}.mp4", f"{key}.poses.npz"]
            about = json.load(tar.extractfile(f"{key}.json"))  # pyright: ignore[reportArgumentType]
        assert (about["source"], about["frames"], about["fps"]) == (row["source"], LENGTH, "15")
        assert about["scores"]["sharpness"] == row["score_sharpness"]


def test_report_card_and_status_tell_the_same(curated: Path) -> None:
    page, card = (curated / "report.html").read_text(), (curated / "README.md").read_text()
    shown = {path.name for path in (curated / "report").iterdir()}
    assert shown and all(f'src="report/{name}"' in page for name in shown)
    assert "frozen picture" in page and "per_shard: 1" in page and page.count("<svg") > 10
    assert "not given" in card and "frozen picture" in card
    assert "kept" in status(curated) and "1 duplicate" in status(curated)


def test_a_second_run_writes_the_same_bytes_and_other_thresholds_read_no_video(
    sources: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are clips compared again."""
    raw, output = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(sources, raw)
    shutil.copytree(curated, output)
    times = {path: path.stat().st_mtime_ns for path in (output / "shards").iterdir()}
    assert any(load_compared(compared_of(output)).values())
    monkeypatch.setattr(copies, "is_copy", None)
    assert curate(config_of(raw, output)) == 0
    assert results(output) == results(curated)
    assert times == {path: path.stat().st_mtime_ns for path in (output / "shards").iterdir()}

    for path in raw.rglob("*.mp4"):
        spoil(path)
    strict = {"thresholds": {"sharpness": {"at_least": 2.0}}}
    assert curate(config_of(raw, output, **strict)) == 0
    found = rows(output).values()
    assert {row["reason"] for row in found} == {"frozen", "sharpness"}
    assert {row["score_body"] for row in found} == {None}, "only scores of levels that were reached count"
    assert list((output / "shards").iterdir()) == []
    assert curate(config_of(raw, output)) == 0
    assert results(output) == results(curated), "and back"


def test_laxer_thresholds_measure_what_was_never_measured_alone(
    sources: Path, curated: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(curated, output)
    before = len((output / "events.jsonl").read_text().splitlines())
    lax = {"thresholds": {"left_hand": {"at_least": None}, "right_hand": {"at_least": None}}}
    assert curate(config_of(sources, output, **lax)) == 0
    assert rows(output)["two.mp4", LENGTH]["status"] == "kept"
    new = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()[before:]]
    assert [event["stage"] for event in new if event["event"] == "done"] == ["clip"], "encoded, not measured"


def test_what_people_say_is_applied_and_remembered(sources: Path, curated: Path, tmp_path: Path) -> None:
    output, said = tmp_path / "out", tmp_path / "said.csv"
    shutil.copytree(curated, output)
    said.write_text("source,start_frame,status\nstill.mp4,0,kept\ntwo.mp4,0,rejected\n")
    assert main(["curate", "review", str(output), str(said)]) == 0
    found = rows(output)
    assert found["still.mp4", 0]["status"] == "kept" and found["still.mp4", 0]["score_body"] is not None
    assert (found["two.mp4", 0]["status"], found["two.mp4", 0]["reason"]) == ("rejected", "review")
    assert curate(config_of(sources, output)) == 0
    assert rows(output) == found
    said.write_text("source,start_frame,status\nstill.mp4,1,kept\n")
    assert main(["curate", "review", str(output), str(said)]) == 2


def test_layouts_of_others_captions_and_a_score_of_ones_own(sources: Path, tmp_path: Path) -> None:
    raw, output = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    shutil.copy(sources / "below" / "three.v2.mp4", raw)
    manifest = tmp_path / "licences.csv"
    manifest.write_text("source,licence\nthree.v2.mp4,CC-BY-4.0\n")
    own = "posedance.pipeline.curate.examples"
    changes: dict[str, Any] = {
        "captions": f"{own}.describe",
        "aesthetics": {"function": f"{own}.colourfulness", "at_least": 1.0},
        "videofolder": True,
        "published": True,
        "manifest": manifest,
    }
    assert curate(config_of(raw, output, **changes)) == 0
    (row,) = rows(output).values()
    assert row["status"] == "kept" and row["score_aesthetics"] > 1
    (line,) = (output / "videofolder" / "metadata.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (
        entry["file_name"] == f"{row['key']}.mp4" and (output / "videofolder" / entry["file_name"]).is_file()
    )
    assert entry["text"].startswith("a person dancing") and entry["licence"] == "CC-BY-4.0"
    assert "| CC-BY-4.0 | 1 | 1 |" in (output / "README.md").read_text()
    published = VideoClips(SPEC, *published_sources(output / "published" / "meta_info.json"))
    packed = VideoClips(SPEC, *shard_sources(output / "shards"))
    assert len(published) == len(packed) and published.bad == []
    assert isinstance(published[0], Clip)
    with shard_sources(output / "shards")[0][0].unpacked() as files:
        poses = load_poses(files.poses)  # pyright: ignore[reportArgumentType]
    guide = next(read_frames(output / "published" / "guides" / f"{row['key']}.mp4", video.Clip())).astype(int)
    ours = next(draw_control_frames(poses, *poses.size))
    assert abs(guide[..., ::-1] - ours).mean() < 0.9 * abs(guide - ours).mean(), "red and blue are exchanged"

    high = {"aesthetics": {"function": f"{own}.colourfulness", "at_least": 1000.0}}
    assert curate(config_of(raw, output, **changes | high)) == 0
    assert [row["reason"] for row in rows(output).values()] == ["aesthetics"]
    assert [path.name for path in (output / "videofolder").iterdir()] == ["metadata.jsonl"]


def test_crops_and_poses_belong_together(curated: Path, tmp_path: Path) -> None:
    """The dancer's joints lie in the crop's picture, whose size the pose file names."""
    source = shard_sources(curated / "shards")[0][0]
    with source.unpacked() as files:
        assert files.poses is not None
        poses = load_poses(files.poses)
    inside = ((poses.keypoints >= 0) & (poses.keypoints < poses.size)).all(-1)
    assert inside[:, :17].mean() > 0.9 and poses.size == (144, 256)


def test_a_clip_that_is_refused_may_be_a_copy_too(few_sources: Path, few_curated: tuple[Path, float]) -> None:
    """Its dancer was followed, other than that of the still: it is told what it is a copy of."""
    output = few_curated[0]
    known = Known(output, config_of(few_sources, output), {})
    states = read_states(known, find_sources(few_sources, output, None))

    def copies(folders: Sequence[Path], fine: Sequence[bool]) -> dict[int, int]:
        assert list(fine) == [True, False] and len(folders) == 2
        return {1: 0}

    decided = {(one.row.source, one.row.start_frame): one.row for one in known.rows(states, copies)}
    copy, kept = decided["two.mp4", LENGTH], decided["two.mp4", 0]
    assert (copy.status, copy.reason, copy.duplicate_of) == ("duplicate", "duplicate", kept.key)
    assert kept.status == "kept" and decided["still.mp4", 0].reason == "frozen"


def test_limit_and_shards_share_the_work(
    few_sources: Path, few_curated: tuple[Path, float], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert curate(config_of(few_sources, output, limit=1)) == 0
    assert {row["source"] for row in rows(output).values()} == {"still.mp4"}
    for part in range(2):
        assert curate(config_of(few_sources, output, shard=f"{part}/2")) == 0
    before = len((output / "events.jsonl").read_text().splitlines())
    assert curate(config_of(few_sources, output)) == 0
    assert len((output / "events.jsonl").read_text().splitlines()) == before, "the shards measured all"
    assert results(output) == results(few_curated[0])


def test_a_function_that_fails_costs_its_clip_alone_until_it_is_tried_again(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, output = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for name in ("two.mp4", "still.mp4"):
        shutil.copy(sources / name, raw)
    (tmp_path / "moody.py").write_text(
        "import os\n"
        "def rate(pictures):\n"
        "    if pictures.astype(float).std(0).mean() > 0.5 and not os.environ.get('MOOD'):\n"
        "        raise RuntimeError('not today')\n"
        "    return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"aesthetics": {"function": "moody.rate"}}
    assert curate(config_of(raw, output, **own)) == 3
    found = rows(output)
    assert found["still.mp4", 0]["reason"] == "frozen"
    assert found["two.mp4", 0]["reason"] == "given up: RuntimeError: not today (after 1 attempts)"
    assert "given up: two.mp4 from frame 0: clip, after 1 attempts: RuntimeError: not today" in status(output)
    monkeypatch.setenv("MOOD", "good")
    assert curate(config_of(raw, output, **own)) == 3, "not tried again"
    assert curate(config_of(raw, output, **own, retry_quarantined=True)) == 0
    assert rows(output)["two.mp4", 0]["status"] == "kept"
    assert list((output / ".work" / "quarantine").iterdir()) == []
