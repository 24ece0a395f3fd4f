"""Inputs from URLs, results to URLs: on fsspec's memory and local file systems."""

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from helpers import add_dance, add_picture

from posedance.pipeline.animate.animate import animate, check_request
from posedance.pipeline.animate.graph import step_keys, steps_of
from posedance.pipeline.animate.pose import pose
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.batch.manifest import Item, make_items
from posedance.pipeline.batch.plan import Plan, find_items, plan_items
from posedance.pipeline.batch.status import events, states_of
from posedance.pipeline.config import AnimateConfig, BatchConfig, EncodeConfig, PoseConfig, write_yaml
from posedance.pipeline.job.job import Job, Key, open_job, source_digest, write_text
from posedance.pipeline.job.once import looking_once
from posedance.pipeline.job.publish import publish
from posedance.pipeline.job.published import is_whole, read_published
from posedance.pipeline.job.scratch import scratch_for
from posedance.pipeline.job.storage import (
    files_of_folder,
    get_text,
    is_file,
    localize,
    put,
    url_of,
)
from posedance.stages.errors import ConfigError, OutputError

FILES = ("result.mp4", "comparison.mp4", "contact_sheet.png", "poses.npz")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with an empty scratch folder, and an empty store in memory."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    yield tmp_path / "scratch"
    store: Any = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """dance.npz, character.png and the character's keypoints, in a folder here and at memory://in/."""
    folder = tmp_path / "in"
    folder.mkdir()
    add_dance(folder, "dance", 1)
    add_picture(folder, "character", 6)
    for file in folder.iterdir():
        put(file, f"memory://in/{file.name}")
    return folder


def test_urls_survive_in_paths() -> None:
    for url in (
        "s3://bucket/a/b.mp4",
        "gs://bucket/x",
        "memory://in/x",
        "file:///home/me/x",
        "https://a.b/c",
    ):
        assert url_of(Path(url)) == url
        assert url_of(Path(url).parent / Path(url).name) == url
    for path in ("a/b.mp4", "/a/b", "c:/windows", "a:b/c"):
        assert url_of(Path(path)) is None


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_copy_is_made_once_and_again_when_the_content_changes(scheme: str, tmp_path: Path) -> None:
    base = "memory://store" if scheme == "memory" else f"file://{tmp_path}/store"
    source = tmp_path / "x.txt"
    source.write_text("first")
    put(source, f"{base}/sub/x.txt")
    url = Path(f"{base}/sub/x.txt")
    copy, digest = localize(url), source_digest(url)
    assert copy.read_text() == "first" and localize(url) == copy and source_digest(url) == digest
    source.write_text("second, longer")
    put(source, f"{base}/sub/x.txt")
    assert localize(url).read_text() == "second, longer" and source_digest(url) != digest
    assert [file.name for file in files_of_folder(Path(f"{base}/sub"))] == ["x.txt"], "nothing half is left"
    assert is_file(url) and not is_file(Path(f"{base}/sub"))


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    missing = Path("memory://in/none.mp4")
    for call in (localize, source_digest):
        with pytest.raises(ConfigError, match=r"there is no file memory://in/none\.mp4"):
            call(missing)
    with pytest.raises(ConfigError, match=r"s3://b/x.mp4: .*posedance\[cloud\]"):
        localize(Path("s3://b/x.mp4"))
    with pytest.raises(ConfigError, match=r"there is no file memory://in/none\.mp4"):
        animate(AnimateConfig(driving=missing, reference=missing, output=tmp_path / "out"))
    with pytest.raises(OutputError, match="cannot work in memory://out"), open_job(Path("memory://out")):
        pass
    with pytest.raises(ConfigError, match="there is no file"):
        pose(PoseConfig(driving=missing, output=tmp_path / "out"))


@pytest.mark.parametrize(
    "url",
    [
        "reference://a.png::evil.json",
        "reference:/a.png",
        "simplecache::s3://b/x",
        "zip://x::memory://a",
        "memory://a.png::reference://evil.json",
        "nosuch://b/x",
    ],
)
def test_stores_that_may_run_what_a_file_says_are_not_opened(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Any cell of a manifest may hold such a text."""
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: pytest.fail(f"{url} was opened"))
    row = {"driving": url, "reference": url}
    with pytest.raises(ConfigError, match=r"names a .* which is not read: use one of|there is no file .*::"):
        make_items([row], AnimateConfig(output=tmp_path), "m.csv", tmp_path)


def test_animate_from_and_to_urls(
    inputs: Path, tmp_path: Path, machine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "posedance")
    own = {"pose": inputs / "dance.npz", "reference": inputs / "character.png"}
    urls = {"pose": Path("memory://in/dance.npz"), "reference": Path("memory://in/character.png")}
    options = {"model": "tiny-random", "steps": 2}
    local = animate(AnimateConfig.model_validate({**own, **options, "output": tmp_path / "out"}))
    config = AnimateConfig.model_validate({**urls, **options, "output": "memory://out/job"})
    made = animate(config)
    assert [url_of(path) for path in made] == [f"memory://out/job/{path.name}" for path in local]
    assert [localize(path).read_bytes() for path in made] == [path.read_bytes() for path in local]
    saved = localize(Path("memory://out/job/config.yaml")).read_text()
    assert "output: memory://out/job" in saved and "pose: memory://in/dance.npz" in saved

    shutil.rmtree(scratch_for("memory://out/job"))
    caplog.clear()
    assert animate(config) == made
    assert "everything in memory://out/job is up to date" in caplog.messages

    fsspec.filesystem("memory").rm("/out/job/result.mp4")
    animate(config)
    assert localize(made[0]).read_bytes() == local[0].read_bytes(), (
        "what is missing is made and published again"
    )
    made = animate(config.model_copy(update={"encode": EncodeConfig(lossless=True)}))
    assert made[0].name == "result.mkv" and is_file(made[0])
    assert not is_file(Path("memory://out/job/result.mp4")), "a video of another job beside it"


def test_published_anew_by_halves_is_not_published(inputs: Path, tmp_path: Path, machine: Path) -> None:
    store = tmp_path / "store"
    config = AnimateConfig.model_validate(
        {
            "pose": inputs / "dance.npz",
            "reference": inputs / "character.png",
            "model": "tiny-random",
            "steps": 1,
            "output": f"file://{store}",
        }
    )
    animate(config)
    url = f"file://{store}"
    assert is_whole(url, read_published(url), step_keys(config))
    (store / "result.mp4").unlink()
    (store / "result.mp4").mkdir()  # the last of the files that are copied
    with pytest.raises(OutputError, match=r"result\.mp4"):
        animate(config.model_copy(update={"seed": 1}))
    assert not (store / "published.json").exists(), "the records of one job over the files of another"


def test_pictures_at_a_url_are_refused_in_one_line(inputs: Path) -> None:
    put(inputs / "character.png", "memory://in/frames/f1.png")
    for driving in ("memory://in/frames", "memory://in/frames/f%d.png"):
        with pytest.raises(ConfigError, match=rf"^{driving} is pictures at a URL: copy them into a folder"):
            check_request(AnimateConfig(driving=Path(driving), reference=inputs / "character.png"))


def test_lora_weights_may_be_in_a_store(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "style.safetensors").touch()
    put(tmp_path / "style.safetensors", "memory://in/style.safetensors")
    own = {"pose": inputs / "dance.npz", "reference": inputs / "character.png"}
    check_request(AnimateConfig.model_validate({**own, "lora": "memory://in/style.safetensors"}))
    with pytest.raises(ConfigError, match=r"there is no file memory:/in/other\.safetensors"):
        check_request(AnimateConfig.model_validate({**own, "lora": "memory://in/other.safetensors"}))


def test_a_batch_to_a_url_goes_on_on_another_machine(inputs: Path, tmp_path: Path, machine: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text(
        "pose,reference,seed,name\ndance.npz,character.png,1,a\ndance.npz,character.png,2,b\n"
    )
    put(manifest, "memory://in/videos.csv")
    url = f"file://{tmp_path}/out"
    config = BatchConfig.model_validate(
        {"manifest": "memory://in/videos.csv", "output": url, "model": "tiny-random", "steps": 2}
    ).model_copy(update={"executor": "local", "limit": 1})
    assert batch(config) == 0
    out = tmp_path / "out"
    assert (out / "a" / "published.json").is_file() and not (out / "b").exists()
    before = (out / "a" / "result.mp4").stat().st_mtime_ns

    shutil.rmtree(machine / "scratch", ignore_errors=True)
    for folder in machine.iterdir():
        shutil.rmtree(folder)
    assert batch(config.model_copy(update={"limit": None})) == 0
    assert (out / "a" / "result.mp4").stat().st_mtime_ns == before, "it is not made twice"
    assert all((out / name / file).is_file() for name in "ab" for file in FILES)
    assert {event["item"] for event in events(scratch_for(url))} == {None, "b"}
    assert [state.status for state in states_of(scratch_for(url))] == ["done", "done"]
    assert "2 videos: 2 done" in (out / "index.html").read_text()
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("failures", [1, 9])
def test_a_copy_that_fails_holds_no_other_video_up(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    left = failures

    def failing(job: Job, url: str, keys: Mapping[str, Key]) -> None:
        nonlocal left
        if url.endswith("/a") and left > 0:
            left -= 1
            raise OutputError("cannot reach memory://out/a: TimeoutError")
        publish(job, url, keys)

    monkeypatch.setattr("posedance.pipeline.batch.publishing.publish", failing)
    (inputs / "videos.csv").write_text(
        "pose,reference,seed,name\ndance.npz,character.png,1,a\ndance.npz,character.png,2,b\n"
    )
    config = BatchConfig.model_validate({
        "manifest": inputs / "videos.csv", "output": "memory://out", "model": "tiny-random", "steps": 1
    }).model_copy(update={"executor": "local"})  # fmt: skip
    if failures == 1:
        assert batch(config) == 0
    else:
        with pytest.raises(OutputError, match="memory://out/a"):
            batch(config)
    assert "cannot reach memory://out/a: TimeoutError: tried again at the end" in caplog.messages
    assert [state.status for state in states_of(scratch_for("memory://out"))] == ["done", "done"]
    assert get_text("memory://out/b/published.json", 10**6) is not None
    assert (get_text("memory://out/a/published.json", 10**6) is not None) == (failures == 1)


def test_a_slow_store_holds_no_other_video_up(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of the first video does not end before the second is made."""
    made, in_time = threading.Event(), []

    def slow(job: Job, url: str, keys: Mapping[str, Key]) -> None:
        if url.endswith("/a"):
            in_time.append(made.wait(60))
        else:
            made.set()
        publish(job, url, keys)

    monkeypatch.setattr("posedance.pipeline.batch.publishing.publish", slow)
    (inputs / "videos.csv").write_text(
        "pose,reference,seed,name\ndance.npz,character.png,1,a\ndance.npz,character.png,2,b\n"
    )
    config = BatchConfig.model_validate({
        "manifest": inputs / "videos.csv", "output": "memory://out", "model": "tiny-random", "steps": 1
    }).model_copy(update={"executor": "local"})  # fmt: skip
    assert batch(config) == 0
    assert in_time == [True]
    assert all(get_text(f"memory://out/{name}/published.json", 10**6) for name in "ab")


CALLS = ("info", "ls", "find", "cat_file", "open", "isfile", "isdir", "exists", "get_file")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The calls of the store in memory by their names, without those that it makes itself for them."""
    store, inside, counts = type(fsspec.filesystem("memory")), threading.local(), Counter[str]()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            outermost, inside.deep = not getattr(inside, "deep", False), True
            counts[name] += outermost
            try:
                return call(*arguments, **options)
            finally:
                inside.deep = not outermost

        return made

    for name in CALLS:
        monkeypatch.setattr(store, name, counted(name, getattr(store, name)))
    return counts


@pytest.mark.parametrize("apart", [True, False])
def test_a_plan_asks_a_store_three_times_a_row_at_most(
    inputs: Path, tmp_path: Path, machine: Path, calls: Counter[str], apart: bool
) -> None:
    """40 rows with files of their own, each in a folder of its own or all in one, that are made already."""
    rows = ["name,pose,reference"]
    store: Any = fsspec.filesystem("memory")
    for row in range(40):
        folder = f"in/{row}/" if apart else f"in/{row}-"
        for name, place in (("dance.npz", "d/"), ("character.png", ""), ("character.npz", "")):
            store.pipe_file(f"/{folder}{place if apart else ''}{name}", (inputs / name).read_bytes())
        rows.append(f"{row},memory://{folder}{'d/' if apart else ''}dance.npz,memory://{folder}character.png")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    config = BatchConfig(manifest=tmp_path / "m.csv", output=tmp_path / "out", model="tiny-random")

    def planned() -> Plan:
        answers: dict[Any, Any] = {}
        with looking_once(answers):
            items, _ = find_items(config)
        with looking_once(answers):
            return plan_items(tmp_path / "out", items, config, "memory://out")

    for item in planned().todo:
        published_by_hand(item)
    for name in ("scratch", "out"):  # another machine: it knows nothing
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    machine.mkdir()
    calls.clear()
    plan = planned()
    assert len(plan.done) == 40 and not plan.todo
    assert calls["open"] == 0, "no file is read to be compared"
    assert calls.total() <= (3 * 40 if apart else 40) + 4


def published_by_hand(item: Item) -> None:
    """Publish a finished job of this item: its files are made up."""
    keys = step_keys(item.config)
    with open_job(item.config.output) as job:
        write_text(job.folder / "config.yaml", write_yaml(item.config))
        write_text(job.folder / "environment.json", "{}")
        for step in steps_of(item.config):
            files = step.files(job.folder, item.config)
            for file in files:
                write_text(file, f"{step.name} of {item.name}")
            job.commit(step.name, keys[step.name], files)
        publish(job, f"memory://out/{item.name}", keys)


def test_a_batch_finds_folders_in_a_store(inputs: Path, tmp_path: Path) -> None:
    put(inputs / "dance.npz", "memory://in/dances/dance.mp4")
    with pytest.raises(ConfigError, match="there is no picture in memory:/in/dances"):
        batch(BatchConfig.model_validate({
            "driving": "memory://in/dances", "reference": "memory://in/dances", "output": tmp_path / "out"
        }))  # fmt: skip


def test_a_url_for_results_of_a_cluster_is_refused(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made in a folder of one machine, which the others do not see."""
    own = {"pose": inputs / "dance.npz", "reference": inputs / "character.png", "output": "memory://out"}
    one, refused = (
        AnimateConfig.model_validate(own),
        r"-o memory://out is for one machine, not for .* head:6379",
    )
    with pytest.raises(ConfigError, match=refused):
        batch(BatchConfig.model_validate({"output": "memory://out", "ray_address": "head:6379"}))
    with pytest.raises(ConfigError, match=refused):
        animate(one, workers=2, ray_address="head:6379")
    with pytest.raises(ConfigError, match="--ray-address head:6379 without --workers"):
        animate(one, ray_address="head:6379")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ConfigError, match=refused):
        batch(BatchConfig.model_validate({"output": "memory://out"}))
    with pytest.raises(ConfigError, match=refused):
        animate(one, workers=2)
    assert not fsspec.filesystem("memory").exists("/out")
