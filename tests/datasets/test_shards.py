"""Shards of training clips: what is read is what was written; damaged ones say so."""

import io
import os
import tarfile

import cv2
import numpy as np
import pytest
import webdataset

from posedance.datasets.clips import BadRecord, Clip, ClipSpec, PuppetClips
from posedance.datasets.shards import ShardClips, write_shards
from posedance.stages.errors import ConfigError

SPEC = ClipSpec(width=36, height=64, canvas=216, frames=2, spacing=0)


@pytest.fixture(scope="module")
def clips():
    puppets = PuppetClips(SPEC, 3, seed=1)
    return [puppets[i] for i in range(3)]


def shards(folder):
    return ShardClips(folder, SPEC.width, SPEC.height, 1 + SPEC.frames)


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("frames", "control", "parts", "palette")
    )


def test_what_is_read_is_what_was_written(clips, tmp_path):
    assert write_shards(clips, tmp_path, per_shard=2, lossless=True) == (3, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-00000.tar", "shard-00001.tar"]
    read = shards(tmp_path)
    assert len(read) == 3 and read.bad == []
    for i in (2, 0, 1):
        assert read[i].number == i
        assert same(read[i], clips[i])


def test_frames_of_videos_lose_little(clips, tmp_path):
    write_shards(clips[:1], tmp_path, 1, lossless=False)
    read = shards(tmp_path)[0]
    assert np.array_equal(read.control, clips[0].control)
    error = np.abs(read.frames.astype(int) - clips[0].frames)
    assert 0 < error.mean() < 4


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize(("count", "height"), [(73, 1024), (64, 1024), (131, 1000), (3, 64)])
def test_a_clip_may_be_higher_than_jpeg(tmp_path, count, height, lossless):
    shape = (count, height, 4)
    levels = np.broadcast_to((np.arange(count, dtype=np.uint8) + 20)[:, None, None, None], (*shape, 3)).copy()
    parts = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None] % 18, shape).copy()
    clip = Clip(0, levels, 255 - levels, parts, np.zeros((18, 4), np.float32))
    assert write_shards([clip], tmp_path, 1, lossless) == (1, [])
    read = ShardClips(tmp_path, 4, height, count)[0]
    assert isinstance(read, Clip), read
    assert np.array_equal(read.control, clip.control) and np.array_equal(read.parts, parts)
    assert np.abs(read.frames.astype(int) - levels).max() <= (0 if lossless else 3)


def test_webdataset_reads_them(clips, tmp_path):
    write_shards(clips, tmp_path, 3, lossless=True)
    samples = list(webdataset.WebDataset(str(tmp_path / "shard-00000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["000000", "000001", "000002"]
    assert {"json", "frames.png", "control.png", "parts.png", "palette.npy"} <= set(samples[0])


def test_bad_records_are_counted_when_written(clips, tmp_path):
    bad = BadRecord("a.mp4", "it is damaged")
    assert write_shards([clips[0], bad, clips[1]], tmp_path, 5, lossless=True) == (2, [bad])
    assert len(shards(tmp_path)) == 2


def test_a_shard_that_breaks_off_says_so_and_keeps_its_first_clips(clips, tmp_path):
    write_shards(clips, tmp_path, 3, lossless=True)
    path = tmp_path / "shard-00000.tar"
    os.truncate(path, int(path.stat().st_size * 0.5))
    read = shards(tmp_path)
    assert len(read.bad) == 1 and "breaks off" in read.bad[0].reason
    found = [read[i] for i in range(len(read))]
    assert same(found[0], clips[0])
    assert isinstance(found[-1], BadRecord)
    assert all(isinstance(one, Clip | BadRecord) for one in found) and len(found) < 4


def npy(array):
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("control.png", b"no picture", "damaged"),
        ("json", b"{}", "frames is missing"),
        ("json", b"no json", "Expecting value"),
        ("json", b"[]", "list indices"),
        ("json", b'{"frames": 0, "columns": 1}', "frames is 0"),
        ("json", b'{"frames": null, "columns": 1}', "frames is None"),
        ("json", b'{"frames": 3, "columns": 0}', "columns is 0"),
        ("json", b'{"frames": 3, "columns": 5}', "no 3 frames in 5 columns"),
        ("palette.npy", npy(np.zeros((3, 4), np.float32)), r"palette is (3, 4)"),
        ("parts.png", png(np.full((192, 36), 200, np.uint8)), "last part 200 of 18"),
        ("palette.npy", b"\x80\x04K\x01.", "pickle"),
        ("parts.png", None, "parts.png is missing"),
    ],
)
def test_a_damaged_clip_is_a_bad_record(clips, tmp_path, name, data, reason):
    write_shards(clips[:1], tmp_path / "good", 1, lossless=True)
    (tmp_path / "bad").mkdir()
    with (
        tarfile.open(tmp_path / "good" / "shard-00000.tar") as source,
        tarfile.open(tmp_path / "bad" / "shard-00000.tar", "w") as target,
    ):
        for member in source:
            content = source.extractfile(member)
            if member.name.endswith(f".{name}"):
                if data is None:
                    continue
                member.size, content = len(data), io.BytesIO(data)
            target.addfile(member, content)
    read = shards(tmp_path / "bad")[0]
    assert isinstance(read, BadRecord) and reason in read.reason, read


def test_another_size_than_the_config_asks_for_is_a_bad_record(clips, tmp_path):
    write_shards(clips[:1], tmp_path, 1, lossless=True)
    assert "the config asks for" in ShardClips(tmp_path, 40, 64, 3)[0].reason


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no shards"):
        shards(tmp_path)
