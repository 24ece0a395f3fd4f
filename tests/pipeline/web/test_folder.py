"""What the page reads and keeps in the jobs' folder: jobs and their states, uploads, the queue, requests."""

import asyncio
import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers import SIZE
from PIL import Image
from videos import moving, write_video

from posedance.pipeline.animate.recorded import record_of
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.web.asking import asked_config, field_of, settings_of_file
from posedance.pipeline.web.config import Folders
from posedance.pipeline.web.jobs import SERVED, cards, file_of, folder_of, is_done, panels_of
from posedance.pipeline.web.queue import Queue
from posedance.pipeline.web.uploads import by_titles, find, gallery, keep, plain_title, receive, video_facts
from posedance.stages.errors import ConfigError, PosedanceError
from posedance.stages.media.encode import VideoWriter


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "jobs")
    made.make()
    return made


def upload(folders: Folders, kind: Any, name: str, source: Path) -> Any:
    copy = folders.uploads / ".copy"
    copy.write_bytes(source.read_bytes())
    return keep(folders, kind, name, copy)


def picture(path: Path, size: tuple[int, int] = (32, 24)) -> Path:
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
    return path


def test_only_files_that_are_shown_of_folders_that_are_there(folders: Folders, tmp_path: Path) -> None:
    job, outside = folders.jobs / "a job", tmp_path / "outside"
    for folder in (job / ".work", outside / ".work"):
        folder.mkdir(parents=True)
    for folder in (job, outside):
        (folder / "config.yaml").write_text("seed: 1\n")
    (folders.jobs / "link").symlink_to(outside)
    (job / "poses.npz").symlink_to(outside / "config.yaml")
    (job / "secret.txt").touch()
    assert file_of(folders, "a job", "config.yaml") == job / "config.yaml"
    for name, file in (
        ("link", "config.yaml"),
        ("a job", "poses.npz"),
        ("a job", "secret.txt"),
        ("a job", ".work"),
        ("a job", "../outside/config.yaml"),
        ("..", "config.yaml"),
        ("../outside", "config.yaml"),
        (".web", "queue.json"),
        (".web/asked", "config.yaml"),
        (str(outside), "config.yaml"),
        ("a job/../../outside", "config.yaml"),
        ("a job\0", "config.yaml"),
        ("", "config.yaml"),
    ):
        with pytest.raises(ConfigError):
            file_of(folders, name, file)
    assert not any(name.startswith(".") or "/" in name for name in SERVED)


def test_an_upload_is_kept_by_its_content_and_never_by_its_name(folders: Folders, tmp_path: Path) -> None:
    found = upload(folders, "picture", "../../etc/a\nb\\ ü.png", picture(tmp_path / "p.png"))
    assert found.title == "ü.png" or found.title == " ü.png"
    kept = [path.name for path in folders.uploads.iterdir()]
    assert sorted(kept) == [f"{found.identity}.json", f"{found.identity}.png"]
    assert find(folders, found.identity, "picture")[0] == found
    assert gallery(folders) == [found]
    for identity in ("..", "../uploads", "x" * 16, found.identity.upper() + "x", ""):
        with pytest.raises(ConfigError, match="no such upload"):
            find(folders, identity, "picture")
    with pytest.raises(ConfigError, match="is a picture"):
        find(folders, found.identity, "video")
    assert plain_title("C:\\videos\\dance.mp4") == "dance.mp4"


def test_what_is_no_such_file_is_told_by_its_name_and_not_kept(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, empty = tmp_path / "t.mp4", tmp_path / "e.png"
    text.write_text("#EXTM3U\n/etc/passwd\n")
    empty.touch()
    monkeypatch.setattr("posedance.pipeline.web.uploads.LARGEST_PICTURE", 32 * 24 - 1)
    monkeypatch.setattr("posedance.pipeline.web.uploads.LARGEST_VIDEO", 64 * 48 * 3 - 1)
    video = write_video(tmp_path / "v.mp4", moving(3))
    for kind, name, source in (
        ("video", "dance.mp4", text),
        ("picture", "anna.png", text),
        ("picture", "anna.png", empty),
        ("picture", "anna.png", picture(tmp_path / "p.png")),
        ("video", "dance.mp4", video),
        ("picture", "dance.mp4", video),
    ):
        with pytest.raises(PosedanceError, match=name) as told:
            upload(folders, kind, name, source)
        assert str(folders.jobs) not in str(told.value) and "\n" not in str(told.value)
    assert not list(folders.uploads.iterdir())


def test_an_upload_ends_at_its_limit(folders: Folders) -> None:
    async def parts() -> Any:
        for _ in range(10):
            yield b"x" * 100

    with pytest.raises(ConfigError, match="more than"):
        asyncio.run(receive(folders, "a.mp4", parts(), 500))
    assert not list(folders.uploads.iterdir())
    assert asyncio.run(receive(folders, "a.mp4", parts(), 1000)).stat().st_size == 1000


def asked(folders: Folders, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """A request with uploads."""
    video = upload(folders, "video", "d.mp4", write_video(tmp_path / "v.mp4", moving(3, *SIZE)))
    still = upload(folders, "picture", "c.png", picture(tmp_path / "p.png"))
    return {"driving": video.identity, "character": still.identity, "options": options}


def test_a_request_names_options_and_no_paths(folders: Folders, tmp_path: Path) -> None:
    wanted = asked(folders, tmp_path, model="tiny-random", seed=3, steps="", duration=None, start=0.5)
    config = asked_config(folders, {"device": "cpu"}, wanted, "new")
    assert (config.seed, config.steps, config.device) == (3, None, "cpu")
    assert config.output == folders.jobs / "new"
    assert config.driving is not None and config.driving.parent == folders.uploads
    for options, line in (
        ({"weights": {"base": "/etc"}}, "unknown option"),
        ({"lora": "/etc/passwd"}, "unknown option"),
        ({"output": "/tmp/x"}, "unknown option"),
        ({"model": "/etc"}, "model = /etc"),
        ({"seed": -1}, "seed = -1"),
        (["seed"], "options are not a mapping"),
        ({"person": "x"}, "person = x"),
    ):
        with pytest.raises(ConfigError, match=line):
            asked_config(folders, {}, {**wanted, "options": options}, "new")
    with pytest.raises(ConfigError, match="--driving is missing"):
        asked_config(folders, {}, {"character": wanted["character"]}, "new")
    with pytest.raises(ConfigError, match="no such upload"):
        asked_config(folders, {}, {**wanted, "driving": "../../etc/passwd"}, "new")


def test_an_error_calls_an_upload_by_its_name(folders: Folders, tmp_path: Path) -> None:
    _, file = find(folders, asked(folders, tmp_path)["driving"], "video")
    file.write_bytes(b"no video any more")
    with pytest.raises(PosedanceError) as told:
        video_facts(file)
    assert str(file) in str(told.value)
    line = by_titles(folders, str(told.value))
    assert line.startswith("d.mp4 cannot be read") and str(folders.jobs) not in line


def test_an_error_stands_beside_its_field() -> None:
    assert field_of("seed = -1: input should be greater than or equal to 0") == "seed"
    assert field_of("--driving is missing: name a video") == "driving"
    assert field_of("--reference is missing") == "character"
    assert field_of("start 9 s is past the end of the video, which is 4 s long") == "driving"
    assert field_of("no person found in reference image a.png: choose --align none") == "character"
    assert field_of("no person found in any frame of driving video a.mp4: use a video that ...") == "driving"
    assert field_of("nothing of that kind") == ""


def test_settings_come_from_a_result_or_its_config(folders: Folders, tmp_path: Path) -> None:
    comment = record_of(AnimateConfig(seed=7, preset="preview", start=Fraction(1, 2)))
    video = write_video(tmp_path / "r.mp4", moving(3), comment=comment)
    copy = tmp_path / "copy"
    copy.write_bytes(video.read_bytes())
    found = settings_of_file(folders, copy, "r.mp4")["options"]
    assert (found["seed"], found["preset"], found["start"]) == (7, "preview", 0.5)
    copy.write_text(
        "seed: 5\nstride: 1\nweights: {base: /etc}\ndriving: a/dance.mp4\nreference: /b/character.png\n"
    )
    told = settings_of_file(folders, copy, "config.yaml")
    assert told["options"] == {"seed": 5, "stride": 1} and told["missing"] == ["dance.mp4", "character.png"]
    for name, text in (("x.mp4", "no video"), ("x.yaml", "seed: [1"), ("x.yaml", "seed: -4")):
        copy.write_text(text)
        with pytest.raises(ConfigError):
            settings_of_file(folders, copy, name)
        assert not copy.exists()


def done(folder: Path) -> None:
    """The records of a finished job."""
    (folder / ".work" / "records").mkdir(parents=True)
    for name in (
        "size",
        "settings",
        "reference",
        "placement",
        "poses",
        "control",
        "latents",
        "result",
        "comparison",
    ):
        (folder / ".work" / "records" / f"{name}.json").write_text('{"files": {}, "facts": {}}')


def test_jobs_are_listed_with_their_state(folders: Folders) -> None:
    done(folders.jobs / "finished")
    (folders.jobs / "begun" / ".work").mkdir(parents=True)
    (folders.jobs / "failed" / ".work").mkdir(parents=True)
    (folders.jobs / "batch" / ".work").mkdir(parents=True)
    (folders.jobs / "batch" / ".work" / "items.json").write_text("{}")
    told = {"began": 0, "ended": None, "videos": [1, 2], "stages": {"pose": {"done": 1}}}
    (folders.jobs / "batch" / ".work" / "progress.json").write_text(json.dumps(told))
    (folders.jobs / "a folder of somebody").mkdir()
    log = folders.logs / "failed.log"
    log.write_text("line\nerror: no person found\n")
    os.utime(log, (time.time() + 5,) * 2)
    found = {card.name: card for card in cards(folders, ["queued"], ["batch"])}
    states = {name: card.state for name, card in found.items()}
    assert states == {"finished": "done", "begun": "stopped", "failed": "failed", "queued": "waiting"} | {
        "batch": "running"
    }
    assert found["batch"].shares == {"stage": "videos", "done": 1, "total": 3, "seconds": 0}
    assert found["failed"].error == "no person found"
    record = folders.jobs / "finished" / ".work" / "records" / "latents.json"
    os.utime(record, (time.time() + 5,) * 2)
    assert not is_done(folders.jobs / "finished", "video")  # begun anew
    with pytest.raises(ConfigError):
        folder_of(folders, "queued")


def test_panels_are_those_of_the_comparison_that_was_written(folders: Folders) -> None:
    for count, names in ((4, ()), (5, ("upscaled",))):
        job = folders.jobs / str(count)
        job.mkdir()
        sizes = {"comparison": (20 + (count - 1) * 288, 512), "result": (108, 192)} | dict.fromkeys(
            names, (216, 384)
        )
        for name, (width, height) in sizes.items():
            with VideoWriter(job / f"{name}.mp4", width, height, Fraction(15)) as writer:
                writer.write(np.zeros((height, width, 3), np.uint8))
        told = panels_of(job)
        assert told is not None
        own = ("pose", "reference", "result", *names)
        assert [(each["name"], each["left"], each["width"]) for each in told["panels"]] == [
            ("driving", 0, 20),
            *((name, 20 + 288 * i, 288) for i, name in enumerate(own)),
        ]


def test_the_queue_keeps_its_order_and_its_pause(folders: Folders) -> None:
    queue = Queue(folders)
    queue.pause(True)
    for name in ("a", "b", "c"):
        queue.add(name, ["animate"], {"title": name}, "")
    queue.order(["c", "unknown", "a", "c"])
    assert queue.cancel("a") == "a is taken out of the queue"
    again = Queue(folders)
    assert again.shown() == {"paused": True, "jobs": ["c", "b"], "working": None}
    with pytest.raises(ConfigError, match="does not run"):
        again.cancel("a")
    (folders.asked / "b.json").unlink()
    assert Queue(folders).jobs == ["c"]


def wait(until: Any) -> None:
    for _ in range(600):
        if until():
            return
        time.sleep(0.05)
    raise AssertionError("that did not happen")


def test_what_a_killed_server_began_is_found_again(folders: Folders) -> None:
    """The process that runs is taken up; one that is gone without a word is begun again; one that said its
    end is not."""
    for name in ("alive", "gone", "ended"):
        (folders.asked / f"{name}.yaml").write_text("")
        (folders.asked / f"{name}.json").write_text(json.dumps({"words": ["--version"]}))
    (folders.logs / "ended.log").write_text("error: no\n")
    states = {}
    mark = str(folders.asked / "alive.yaml")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", mark]) as process:
        wait(lambda: mark in psutil.Process(process.pid).cmdline())
        for name in ("alive", "gone", "ended"):
            (folders.own / "queue.json").write_text(json.dumps({"jobs": [], "working": name}))
            queue = Queue(folders)
            states[name] = (queue.working, queue.jobs)
            if name == "alive":
                assert "stops" in queue.cancel("alive")
        process.wait(timeout=30)
    assert states == {"alive": ("alive", []), "gone": (None, ["gone"]), "ended": (None, [])}


def test_the_queue_runs_commands_and_reads_how_they_end(folders: Folders) -> None:
    queue = Queue(folders)
    queue.add("right", ["--version"], {"title": "right"}, "")
    queue.add("wrong", ["animate", "--config", "CONFIG"], {"title": "wrong"}, "seeed: 1\n")
    queue.start()
    try:
        wait(lambda: not queue.jobs and queue.working is None)
    finally:
        queue.close()
    assert (folders.logs / "right.log").read_text().endswith("ended\n")
    (line,) = (folders.logs / "wrong.log").read_text().strip().splitlines()
    assert line.startswith("error: ") and "did you mean seed?" in line
