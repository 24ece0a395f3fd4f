"""What `--output` names: a folder, or a video with the job's folder beside it."""

from pathlib import Path

import pytest

from posedance.pipeline.animate.pose import pose
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.config import BatchConfig, EncodeConfig, PoseConfig
from posedance.pipeline.job.job import Job
from posedance.pipeline.job.output import copy_video, job_folder
from posedance.stages.errors import ConfigError, OutputError


def test_a_video_has_its_folder_beside_it_and_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert job_folder(tmp_path / "a.mp4", ()) == tmp_path / "a.job"
    assert job_folder(tmp_path / "a.v2", ()) == tmp_path / "a.v2"
    (tmp_path / "old.mp4").mkdir()
    assert job_folder(tmp_path / "old.mp4", ()) == tmp_path / "old.mp4"


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ("a.mov", r"results are \.mp4 \(with --encode\.lossless \.mkv\): name a\.mp4"),
        ("memory://x/a.mp4", "a URL names a folder"),
        ("in/../b.mp4", "input"),
    ],
)
def test_what_cannot_be_written_is_refused(
    output: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=what):
        job_folder(Path(output), (None, tmp_path / "b.mp4"))


def test_commands_that_write_a_folder_refuse_a_video(tmp_path: Path) -> None:
    for refused in (
        lambda: pose(PoseConfig(driving=tmp_path / "b.mp4", output=tmp_path / "a.mp4")),
        lambda: batch(BatchConfig(manifest=tmp_path / "b.csv", output=tmp_path / "a.mp4")),
    ):
        with pytest.raises(ConfigError, match="writes a folder"):
            refused()
    with pytest.raises(ConfigError, match=r"--encode\.bit-depth is of what animate makes"):
        pose(PoseConfig(driving=tmp_path / "b.mp4", output=tmp_path / "a", encode=EncodeConfig(bit_depth=10)))
    assert list(tmp_path.iterdir()) == []


def test_the_copy_is_made_once_and_again_where_it_was_changed(tmp_path: Path) -> None:
    job, video = Job(tmp_path / "a.job"), tmp_path / "a.mp4"
    (job.work / "records").mkdir(parents=True)
    result = job.folder / "result.mp4"
    result.write_bytes(b"a video")
    job.commit("result", "key", [result])
    copy_video(job, "result", video)
    made = video.stat()
    copy_video(job, "result", video)
    assert video.stat().st_ino == made.st_ino
    video.write_bytes(b"another")
    copy_video(job, "result", video)
    assert video.read_bytes() == b"a video"
    with pytest.raises(OutputError, match="nowhere"):
        copy_video(job, "result", tmp_path / "nowhere" / "a.mp4")
