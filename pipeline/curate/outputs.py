"""The clips that are kept, in shards and in the layouts of others; what did not change is not written."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.clip_shards import PackedClip, write_clip_shard
from ...stages.atomic import atomic_path
from ...stages.pose.skeleton import LEFT_HAND, RIGHT_HAND
from ..job.job import Job, key_of, read_record, write_text
from ..progress import stage
from .card import write_card
from .encode import CLIP, GUIDE, POSES
from .report import write_report
from .sources import licence_of
from .states import Decided, Known
from .store import ENCODED
from .table import TABLE, write_table

SHARDS, VIDEOFOLDER, PUBLISHED = "shards", "videofolder", "published"


def write_shards(
    root: Path, decided: Sequence[Decided], per_shard: int, licences: Mapping[str, str]
) -> list[Decided]:
    """Write the kept clips as tars, so many in each, and remove tars that are left over; returns all rows.

    A tar whose clips are the same as before is not written again.
    """
    job, folder = Job(root), root / SHARDS
    folder.mkdir(exist_ok=True)
    kept = [i for i, one in enumerate(decided) if one.row.status == "kept"]
    placed = list(decided)
    names = []
    with stage("shards", len(kept), "clip") as advance:
        for first in range(0, len(kept), per_shard):
            part = kept[first : first + per_shard]
            name = f"shard-{first // per_shard:05d}"
            path = folder / f"{name}.tar"
            clips = [packed(decided[i], licences) for i in part]
            digests = [encoded_digest(decided[i]) for i in part]
            key = key_of(
                "shard",
                1,
                clips=[[clip.key, clip.about, *own] for clip, own in zip(clips, digests, strict=True)],
            )
            if not job.holds(name, key):
                job.record_path(name).unlink(missing_ok=True)
                write_clip_shard(path, clips)
                job.commit(name, key, [path])
            for i in part:
                placed[i] = replace(decided[i], row=replace(decided[i].row, shard=path.name))
            names.append(name)
            advance(len(part))
    for path in folder.glob("shard-*.tar"):
        if path.stem not in names:
            job.record_path(path.stem).unlink(missing_ok=True)
            path.unlink()
    return placed


def packed(one: Decided, licences: Mapping[str, str]) -> PackedClip:
    """A kept clip with what its JSON in the shard says."""
    assert one.folder is not None and one.row.key is not None
    return PackedClip(one.row.key, one.folder / CLIP, one.folder / POSES, about(one, licences))


def about(one: Decided, licences: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a kept clip, as plain data."""
    row, encoded = one.row, one.encoded
    assert encoded is not None
    return {
        **encoded,
        "source": row.source,
        "source_sha256": row.source_sha256,
        "start_frame": row.start_frame,
        "end_frame": row.end_frame,
        "licence": licence_of(row.source, licences) or None,
        "scores": dict(row.scores),
    }


def encoded_digest(one: Decided) -> list[str]:
    """SHA-256 of a kept clip's files, as they were recorded."""
    assert one.folder is not None
    record = read_record(Job(one.folder).record_path(ENCODED))
    assert record is not None
    return [entry["sha256"] for _, entry in sorted(record["files"].items())]


def write_videofolder(root: Path, kept: Sequence[Decided], licences: Mapping[str, str]) -> None:
    """The kept clips as Hugging Face's VideoFolder: videos and metadata.jsonl."""
    folder = root / VIDEOFOLDER
    folder.mkdir(exist_ok=True)
    lines = []
    for one in kept:
        link(one, CLIP, folder / f"{one.row.key}.mp4")
        known = about(one, licences)
        text = {"text": known.pop("caption")} if known["caption"] is not None else {}
        known.pop("caption", None)
        scores = {f"score_{name}": value for name, value in known.pop("scores").items()}
        lines.append(
            json.dumps({"file_name": f"{one.row.key}.mp4", **text, **known, **scores}, ensure_ascii=False)
        )
    write_text(folder / "metadata.jsonl", "\n".join([*lines, ""]))
    keep_only(folder, {f"{one.row.key}.mp4" for one in kept})


def write_published(root: Path, kept: Sequence[Decided]) -> None:
    """The kept clips as the published training of ControlNeXt-SVD-v2 reads them."""
    folder = root / PUBLISHED
    for name in ("videos", "guides", "detections"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    records = []
    with stage("published", len(kept), "clip") as advance:
        for one in kept:
            key = one.row.key
            link(one, CLIP, folder / "videos" / f"{key}.mp4")
            link(one, GUIDE, folder / "guides" / f"{key}.mp4")
            assert one.folder is not None
            text = json.dumps(detections(one.folder / POSES))
            path = folder / "detections" / f"{key}.json"
            if not path.is_file() or path.read_text() != text:
                write_text(path, text)
            records.append(
                {
                    "video_path": f"videos/{key}.mp4",
                    "guide_path": f"guides/{key}.mp4",
                    "meta_info": f"detections/{key}.json",
                }
            )
            advance(1)
    write_text(folder / "meta_info.json", json.dumps(records, indent=1))
    keys = {one.row.key for one in kept}
    for name, end in (("videos", "mp4"), ("guides", "mp4"), ("detections", "json")):
        keep_only(folder / name, {f"{key}.{end}" for key in keys})


def detections(poses: Path) -> list[dict[str, Any]]:
    """For each frame the boxes of body and hands, corners as fractions of the picture, and hand scores."""
    with np.load(poses, allow_pickle=False) as arrays:
        points = arrays["keypoints"] / arrays["size"].astype(np.float32)
        scores, hands = arrays["scores"], arrays["hands_boxes"]
    frames = []
    for shown, values, boxes in zip(points, scores, hands, strict=True):
        seen = shown[values > 0]
        body = [seen.min(0).tolist(), seen.max(0).tolist()] if len(seen) else [[0.0, 0.0], [0.0, 0.0]]
        frames.append(
            {
                "boxes": [body],
                "hands_boxes": boxes.tolist(),
                "hands_score": [values[hand].tolist() for hand in (LEFT_HAND, RIGHT_HAND)],
            }
        )
    return frames


def link(one: Decided, name: str, target: Path) -> None:
    """A file of a clip under another name: the same file where the disk can, else a copy."""
    assert one.folder is not None
    source = one.folder / name
    with suppress(FileNotFoundError):
        if source.samefile(target):
            return
        if target.stat().st_nlink == 1 and target.read_bytes() == source.read_bytes():
            return
        target.unlink()
    try:
        os.link(source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def keep_only(folder: Path, names: set[str]) -> None:
    """Remove the clips that are kept no more."""
    for path in folder.iterdir():
        if path.suffix in (".mp4", ".json") and path.name not in names:
            path.unlink()


def write_outputs(
    root: Path, decided: Sequence[Decided], known: Known, licences: Mapping[str, str]
) -> list[Decided]:
    """All that the output folder holds for people; returns the rows with their shards."""
    config = known.config
    placed = write_shards(root, decided, config.per_shard, licences)
    kept = [one for one in placed if one.row.status == "kept"]
    if config.videofolder:
        write_videofolder(root, kept, licences)
    if config.published:
        write_published(root, kept)
    write_table(root / TABLE, [one.row for one in placed], [score.name for score in known.filters])
    write_report(root, placed, known)
    write_card(root, placed, known, licences)
    return placed
