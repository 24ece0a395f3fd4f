"""Job folders: done means done, whatever killed the run before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posedance.pipeline.job.job import Job, key_of, open_job, sweep, write_text
from posedance.pipeline.progress import observed
from posedance.stages.atomic import temporary_name
from posedance.stages.errors import OutputError, UnavailableError


def make_step(job: Job, key: str, text: str = "made") -> bool:
    path = job.folder / "a.txt"
    return job.run("a", key, [path], lambda: write_text(path, text))


def test_a_step_runs_once_for_each_key(tmp_path: Path) -> None:
    with open_job(tmp_path / "out") as job:
        assert make_step(job, key_of("a", 1, x=1))
        assert not make_step(job, key_of("a", 1, x=1))
        assert make_step(job, key_of("a", 1, x=2))


@pytest.mark.parametrize("damage", ["remove", "truncate", "change", "record"])
def test_a_damaged_file_is_not_done(tmp_path: Path, damage: str) -> None:
    with open_job(tmp_path / "out") as job:
        make_step(job, "k")
        path = job.folder / "a.txt"
        if damage == "remove":
            path.unlink()
        elif damage == "truncate":
            path.write_text("mad")
        elif damage == "change":
            path.write_text("fade")
        else:
            job.record_path("a").write_text('{"key": "k", "fi')
        assert make_step(job, "k")
        assert not make_step(job, "k")


def test_a_failing_step_leaves_no_record(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no")

    with open_job(tmp_path / "out") as job:
        make_step(job, "old")
        with pytest.raises(ValueError):
            job.run("a", "new", [job.folder / "a.txt"], fail)
        assert make_step(job, "old"), "the old record must not vouch for what a failed step may have touched"


def test_facts_survive(tmp_path: Path) -> None:
    with open_job(tmp_path / "out") as job:
        job.run("a", "k", [], lambda: {"frames": 3})
    with open_job(tmp_path / "out") as job:
        assert job.facts("a") == {"frames": 3}
        assert job.facts("never") == {}


def test_a_second_run_on_the_folder_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from posedance.pipeline.job.job import open_job\n"
        "from posedance.stages.atomic import temporary_name\n"
        f"with open_job(Path({str(tmp_path / 'out')!r})) as job:\n"
        "    temporary_name(job.folder / 'result.mp4').write_text('torn')\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=f"in use by process {other.pid}"), open_job(tmp_path / "out"):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with open_job(tmp_path / "out") as job:
        assert not list(job.folder.glob(".*.tmp*")), "what the killed run left must be gone"


def test_a_sweep_removes_what_killed_runs_left_and_nothing_else(tmp_path: Path) -> None:
    """The output folder may be one where others keep hidden files, as with `-o .`."""
    names = (".bashrc.tmpl", ".notes.1a2b3c4d.tmp", ".a.tmp", "b.1a2b3c4d.posedance.tmp", ".c.posedance.tmp")
    for folder in (tmp_path, tmp_path / ".work" / "own"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text("mine")
        (folder / ".d.1a2b3c4d.posedance.tmp").mkdir()
        temporary_name(folder / "result.mp4").write_text("torn")
    sweep(tmp_path)
    for folder in (tmp_path, tmp_path / ".work" / "own"):
        left = {path.name for path in folder.iterdir()} - {".work", "own"}
        assert left == {*names, ".d.1a2b3c4d.posedance.tmp"}


def test_waiting_for_a_folder_is_no_stall(tmp_path: Path) -> None:
    """Another run holds it: a worker says all the while that it lives, and then that it may be had later."""
    said: list[str] = []
    with (
        open_job(tmp_path / "out"),
        observed(lambda stage, done, total: said.append(stage)),
        pytest.raises(UnavailableError, match="is in use by process"),
        open_job(tmp_path / "out", patience_s=0.5),
    ):
        pass
    assert set(said) == {"waiting"} and len(said) >= 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write to output folder"), open_job(tmp_path / "out"):
        pass


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot write to output folder"), open_job(tmp_path / "out"):
        pass


def test_atomic_write_leaves_the_old_file_when_killed(tmp_path: Path) -> None:
    """Kill a process that rewrites a file in a loop; the file must always be one of the whole versions."""
    path = tmp_path / "f"
    script = (
        "from pathlib import Path; from posedance.pipeline.job.job import write_text\n"
        "i = 0\n"
        f"while True:\n    write_text(Path({str(path)!r}), chr(32 + i % 90) * 200_000); i += 1"
    )
    for delay in (0.02, 0.05, 0.11):
        writer = subprocess.Popen([sys.executable, "-c", script])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(delay)
        writer.kill()
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 200_000 and len(set(data)) == 1
