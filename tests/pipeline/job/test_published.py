"""published.json: told from torn and foreign ones, and what it may name."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import add_dance, add_picture

from posedance.pipeline.animate.graph import step_keys
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.job import storage
from posedance.pipeline.job.job import Job, source_digest, write_text
from posedance.pipeline.job.publish import is_done_at, publish
from posedance.pipeline.job.published import Published, is_whole, read_published
from posedance.pipeline.job.scratch import scratch
from posedance.pipeline.job.storage import get_text, put
from posedance.stages.errors import UnavailableError

KEYS = {"poses": "a" * 64, "result": "b" * 64}
URL = "memory://out/job"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with an empty scratch folder, and an empty store in memory."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    yield
    store: Any = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A finished job of two steps, published at URL."""
    job = Job(tmp_path / "job")
    (job.work / "records").mkdir(parents=True)
    for name in ("environment.json", "config.yaml"):
        write_text(job.folder / name, "{}")
    for step, name in (("poses", "poses.npz"), ("result", "result.mp4")):
        write_text(job.folder / name, f"{step} of one")
        job.commit(step, KEYS[step], [job.folder / name], {"notes": ["a note"]})
    publish(job, URL, KEYS)
    return job


def put_text(text: str, url: str) -> None:
    path = Path(tempfile.gettempdir(), "text")
    path.write_text(text)
    put(path, url)


def test_files_of_another_job_under_its_records_are_told(job: Job) -> None:
    """As while a job is published anew: of the same size."""
    assert is_whole(URL, read_published(URL), KEYS)
    put_text("result of two", f"{URL}/result.mp4")
    assert not is_whole(URL, read_published(URL), KEYS)
    put_text("result of one", f"{URL}/result.mp4")
    assert is_whole(URL, read_published(URL), KEYS), "the same bytes, whenever they were copied"


def test_two_runs_that_publish_at_once_are_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(source: Path, target: str) -> None:
        put(source, target)
        put(source, f"{URL}/published.json")

    monkeypatch.setattr("posedance.pipeline.job.publish.put", overtaken)
    with pytest.raises(UnavailableError, match="another run publishes to memory://out/job at the same time"):
        publish(job, URL, KEYS)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("steps", "result", "files"), {"../../pwned": {"size": 1, "sha256": "0" * 64}}),
        (("steps", "result", "files"), {"/etc/pwned": {"size": 1, "sha256": "0" * 64}}),
        (("steps", "result", "files"), {"a/../../pwned": {"size": 1, "sha256": "0" * 64}}),
        (("steps", "result", "files"), {"..\\pwned": {"size": 1, "sha256": "0" * 64}}),
        (("steps", "result", "files"), {"x": {"size": -1, "sha256": "0" * 64}}),
        (("steps", "result", "files"), {"x": {"size": 1, "sha256": "../x"}}),
        (("steps", "result", "files"), []),
        (("steps", "result", "key"), 3),
        (("steps", "result", "facts"), {"notes": ["\x1b[2J"]}),
        (("steps", "result", "facts"), {"notes": "text"}),
        (("steps", "result"), "text"),
        (("steps", "result", "more"), 1),
        (("steps",), []),
        (("inputs",), {"memory://in/x": {"said": "", "sha256": "0" * 64}}),
    ],
    ids=str,
)
def test_what_is_not_of_its_shape_is_not_read(job: Job, place: tuple[str, ...], value: object) -> None:
    whole = json.loads(get_text(f"{URL}/published.json", 10**6) or "")
    inner = whole
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    put_text(json.dumps(whole), f"{URL}/published.json")
    assert read_published(URL) == Published()


def test_records_of_unknown_steps_are_written_nowhere(job: Job, tmp_path: Path) -> None:
    """Steps give their records' names."""
    whole = json.loads(get_text(f"{URL}/published.json", 10**6) or "")
    whole["steps"]["../../../pwned"] = whole["steps"]["result"]
    put_text(json.dumps(whole), f"{URL}/published.json")
    other = Job(tmp_path / "deep" / "other" / "machine")
    assert is_done_at(URL, other, KEYS, read_published(URL))
    assert {path.name for path in other.folder.rglob("*.json")} == {"poses.json", "result.json"}
    assert not list(tmp_path.rglob("pwned*"))
    assert other.holds("result", "b" * 64) is False and other.facts("poses") == {"notes": ["a note"]}


def test_a_giant_one_is_not_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedance.pipeline.job.published.LARGEST", 100)
    assert read_published(URL) == Published()


def test_the_same_bytes_are_the_same_input_wherever_they_lie(tmp_path: Path) -> None:
    add_dance(tmp_path, "dance", 1)
    add_picture(tmp_path, "anna", 6)
    for file in tmp_path.glob("*.*"):
        put(file, f"memory://a/{file.name}")
        put(file, f"file://{tmp_path}/b/{file.name}")
    keys = [
        step_keys(AnimateConfig.model_validate({"pose": f"{at}/dance.npz", "reference": f"{at}/anna.png"}))
        for at in (tmp_path, "memory://a", f"file://{tmp_path}/b")
    ]
    assert keys[0] == keys[1] == keys[2]


def test_a_published_job_is_known_on_another_machine_without_reading_its_inputs(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_text("a dance", "memory://in/dance.npz")
    write_text(job.folder / "config.yaml", "pose: memory:/in/dance.npz")
    publish(job, URL, KEYS)
    digest = source_digest(Path("memory://in/dance.npz"))
    shutil.rmtree(scratch())
    read: list[str] = []
    monkeypatch.setattr(storage, "bytes_digest", lambda url: read.append(url) or "0" * 64)
    published = read_published(URL)
    assert source_digest(Path("memory://in/dance.npz"), published.digest_of) == digest and not read
    assert is_whole(URL, published, KEYS)
    put_text("b dance", "memory://in/dance.npz")
    source_digest(Path("memory://in/dance.npz"), published.digest_of)
    assert read == ["memory://in/dance.npz"], "its store says something else of it"
