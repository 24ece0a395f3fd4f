"""Shards of whole clips: training cuts from them what it cuts from the same videos in a folder."""

import json
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import webdataset

from posedance.datasets.clip_shards import PackedClip, boxes_of, holds_clips, shard_sources, write_clip_shard
from posedance.datasets.clips import BadRecord, Clip, ClipSpec, PuppetClips
from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.datasets.shards import write_shards
from posedance.datasets.video_clips import VideoClips, folder_sources
from posedance.stages.errors import ConfigError
from posedance.stages.media.encode import VideoWriter
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence

SIZE, FPS, FRAMES = (96, 128), Fraction(30000, 1001), 20
SPEC = ClipSpec(width=48, height=80, canvas=216, frames=2, spacing=3)  # a clip needs 9 frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn dances, each a video with its poses beside it."""
    folder = tmp_path_factory.mktemp("videos")
    for number in (3, 4):
        drawn = [render(make_character(number), make_motion(4, FPS), i, *SIZE) for i in range(FRAMES)]
        with VideoWriter(folder / f"dance{number}.mp4", *SIZE, FPS, preset="veryfast") as writer:
            for frame in drawn:
                writer.write(frame.image)
        keypoints, scores = (
            np.stack([getattr(one, name) for one in drawn]) for name in ("keypoints", "scores")
        )
        save_poses(folder / f"dance{number}.npz", PoseSequence(keypoints, scores, SIZE, FPS))
    return folder


def packed(videos: Path) -> list[PackedClip]:
    """The clips of a folder; keys end as the names of the videos, which decide the references."""
    about = {"frames": FRAMES, "fps": str(FPS)}
    names = sorted(path.stem for path in videos.glob("*.mp4"))
    return [PackedClip(n, videos / f"{n}.mp4", videos / f"{n}.npz", about | {"n": n}) for n in names]


def test_training_cuts_from_shards_what_it_cuts_from_videos(videos: Path, tmp_path: Path) -> None:
    write_clip_shard(tmp_path / "shard-00000.tar", packed(videos))
    assert holds_clips(tmp_path)
    clips, plain = VideoClips(SPEC, *shard_sources(tmp_path)), VideoClips(SPEC, *folder_sources(videos))
    assert len(clips) == len(plain) == 4 and clips.bad == []
    assert clips.files() == [tmp_path / "shard-00000.tar"]
    for i in (3, 0):
        clip, same = clips[i], plain[i]
        assert isinstance(clip, Clip) and isinstance(same, Clip)
        assert np.array_equal(clip.frames[1:], same.frames[1:])
        assert np.array_equal(clip.control[1:], same.control[1:])
        assert np.array_equal(clip.parts[1:], same.parts[1:])
    first, again = clips[1], VideoClips(SPEC, *shard_sources(tmp_path))[1]
    assert isinstance(first, Clip) and isinstance(again, Clip)
    assert np.array_equal(first.frames, again.frames), "the reference is the same in every run"


def test_the_same_clips_give_the_same_bytes_and_webdataset_reads_them(videos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_clip_shard(tmp_path / f"{name}.tar", packed(videos))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    read = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == ["dance3", "dance4"]
    assert {"mp4", "poses.npz", "json"} <= set(read[0])
    assert json.loads(read[1]["json"]) == {"frames": FRAMES, "fps": "30000/1001", "n": "dance4"}
    assert read[0]["mp4"] == (videos / "dance3.mp4").read_bytes()


def test_damaged_shards_and_clips_are_left_out_with_their_reason(videos: Path, tmp_path: Path) -> None:
    one, two = packed(videos)
    write_clip_shard(tmp_path / "shard-00000.tar", [one, two])
    data = (tmp_path / "shard-00000.tar").read_bytes()
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        place = tar.getmember("dance4.mp4").offset_data
    (tmp_path / "shard-00000.tar").write_bytes(data[: place + 1000])
    sources, bad = shard_sources(tmp_path)
    clips = VideoClips(SPEC, sources, bad)
    assert len(clips) == 2 and "its poses.npz is missing" in str(clips.bad[-1])

    write_clip_shard(tmp_path / "shard-00000.tar", [PackedClip("x", one.video, one.poses, {"frames": 20})])
    assert "'fps'" in str(shard_sources(tmp_path)[1][0])

    shutil.copy(one.video, tmp_path / "half.mp4")
    with (tmp_path / "half.mp4").open("r+b") as file:
        file.truncate(one.video.stat().st_size // 2)
    broken = PackedClip("half", tmp_path / "half.mp4", one.poses, one.about)
    write_clip_shard(tmp_path / "shard-00000.tar", [broken])
    record = VideoClips(SPEC, *shard_sources(tmp_path))[0]
    assert isinstance(record, BadRecord) and "shard-00000.tar:half from frame 0" in str(record)


def test_shards_of_ready_clips_are_told_apart(tmp_path: Path) -> None:
    puppets = PuppetClips(ClipSpec(width=36, height=64, canvas=216, frames=2, spacing=0), 1, seed=1)
    write_shards([puppets[0]], tmp_path, per_shard=1, lossless=True)
    assert not holds_clips(tmp_path)
    with pytest.raises(ConfigError, match="no shards"):
        holds_clips(tmp_path / "nothing")


def test_boxes_hold_what_is_seen() -> None:
    keypoints = np.zeros((2, 133, 2), np.float32)
    keypoints[0, 91:112] = np.linspace((10, 20), (30, 60), 21)
    scores = np.zeros((2, 133), np.float32)
    scores[0, 91:112] = 0.8
    boxes = boxes_of(PoseSequence(keypoints, scores, (100, 200), FPS))
    assert np.allclose(boxes["hands_boxes"][0, 0], [[0.1, 0.1], [0.3, 0.3]])
    assert boxes["hands_boxes"].shape == (2, 2, 2, 2) and not boxes["hands_boxes"][1].any()
    assert np.allclose(boxes["hands_score"], [[0.8, 0], [0, 0]])
    assert boxes["face_boxes"].shape == (2, 2, 2) and not boxes["face_boxes"].any()
