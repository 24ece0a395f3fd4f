"""The queue: which jobs are to run, in which order, each by the command line in a process of its own.

    .web/queue.json        {"paused": false, "jobs": [NAME, ...], "working": NAME or null}
    .web/asked/NAME.yaml   the config of a job; NAME.json how it is shown, and its command
    .web/logs/NAME.log     what its command said

A command runs in a session of its own, so it goes on when the server ends, however that ends. The next server
finds it again by the file that it was given, and begins again what was killed too.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from ...stages.errors import ConfigError
from ..batch.status import is_running, read_json
from ..job.job import write_text
from .config import Folders
from .jobs import NAME, last_error, last_lines

logger = logging.getLogger(__name__)

LOOK_S = 0.3
"""Seconds between looks at the queue and at what runs."""
STOPPED = "stopped: "
"""How the last line begins of a command that somebody stopped."""
WHERE_TO_LOOK = ("index.html", "report.html")
"""How the last lines of batches and curations end that came to their end."""
ATTEMPTS = 3
"""How often a command that vanished without a word is begun again in a row."""


class Queue:
    """The jobs that wait, and the one that works. All methods may be called from any thread."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._path = folders.own / "queue.json"
        self._lock = threading.RLock()
        told = read_json(self._path)
        told = told if isinstance(told, dict) else {}
        self.paused: bool = bool(told.get("paused", False))
        self.jobs: list[str] = [name for name in told.get("jobs", []) if self._is_asked(name)]
        self.working: str | None = None
        self._process: psutil.Process | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._vanished: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        before = told.get("working")
        if isinstance(before, str) and self._is_asked(before):
            self._take_up(before)

    def _is_asked(self, name: Any) -> bool:
        return isinstance(name, str) and bool(NAME.fullmatch(name)) and self._asked(name, "json").is_file()

    def _asked(self, name: str, ending: str) -> Path:
        return self._folders.asked / f"{name}.{ending}"

    def _take_up(self, name: str) -> None:
        """Go on with what an earlier server began: its process where that lives, else the job anew."""
        process = self._find(name)
        if process is not None:
            self.working, self._process = name, process
        elif not self._told_its_end(name) and not self._looks_done(name):
            self.jobs.insert(0, name)
        self._save()

    def _find(self, name: str) -> psutil.Process | None:
        """The process that was given this job's file."""
        mark = self._mark(name)
        for process in psutil.process_iter(["cmdline"]):
            if mark in (process.info["cmdline"] or ()) and is_alive(process):
                return process
        return None

    def _mark(self, name: str) -> str:
        """The word of a job's command that no other command has."""
        return str(self._asked(name, "yaml"))

    def _told_its_end(self, name: str) -> bool:
        """Whether a job's last command said how it ended: done, stopped, or with an error."""
        lines = last_lines(self._folders.logs / f"{name}.log")
        return bool(lines) and (lines[-1].startswith(("error: ", STOPPED, "ended")))

    def add(self, name: str, words: list[str], shown: dict[str, Any], config: str) -> None:
        """Put a job at the end of the queue: `words` are its command's, CONFIG stands for its file."""
        with self._lock:
            write_text(self._asked(name, "yaml"), config)
            write_text(self._asked(name, "json"), json.dumps({**shown, "words": words}))
            self._again(name)

    def again(self, name: str) -> None:
        """Put a job that was asked for before at the end. Raises ConfigError for one that was not."""
        with self._lock:
            if not self._is_asked(name):
                raise ConfigError(f"{name} was not asked for on this page: run its own command again")
            self._again(name)

    def _again(self, name: str) -> None:
        self._vanished.pop(name, None)
        if name not in self.jobs and name != self.working:
            self.jobs.append(name)
        self._save()

    def order(self, names: list[str]) -> None:
        """Let the jobs that wait run in this order; those that are not named come last."""
        with self._lock:
            first = [name for name in dict.fromkeys(names) if name in self.jobs]
            self.jobs = [*first, *(name for name in self.jobs if name not in first)]
            self._save()

    def pause(self, paused: bool) -> None:
        """Begin no other job; the one that works goes on."""
        with self._lock:
            self.paused = paused
            self._save()

    def cancel(self, name: str) -> str:
        """Take a job out of the queue, or stop its process; returns a line for the visitor.

        What is made stays. A second time the process is killed. Raises ConfigError for a job that is neither.
        """
        with self._lock:
            if name in self.jobs:
                self.jobs.remove(name)
                self._save()
                return f"{name} is taken out of the queue"
            if name != self.working or self._process is None:
                if is_running(self._folders.jobs / name):
                    raise ConfigError(f"{name} was started elsewhere: stop it there, with Ctrl-C")
                raise ConfigError(f"{name} does not run")
            again = self._vanished.get(name) == -1
            self._vanished[name] = -1
            try:
                self._process.send_signal(signal.SIGKILL if again else signal.SIGTERM)
            except psutil.NoSuchProcess:
                return f"{name} has ended"
        return f"{name} stops; what is finished of it stays"

    def shown(self) -> dict[str, Any]:
        """What the page shows of the queue."""
        with self._lock:
            return {"paused": self.paused, "jobs": list(self.jobs), "working": self.working}

    def start(self, on_start: Callable[[str], None] = lambda name: None) -> None:
        """Work from now on, in a thread; `on_start` is called with a job before its command begins."""
        self._thread = threading.Thread(target=self._work, args=(on_start,), name="queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Begin no other job. What works goes on, in a process of its own."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self, on_start: Callable[[str], None]) -> None:
        while not self._ended.wait(LOOK_S):
            with self._lock:
                if self.working is not None:
                    if self._process is None or not is_alive(self._process):
                        self._finish(self.working)
                    continue
                if self.paused or not self.jobs:
                    continue
                name = self.jobs[0]
                if is_running(self._folders.jobs / name):  # somebody else has it
                    continue
                (self._folders.logs / f"{name}.log").unlink(missing_ok=True)  # or its old end counted
                self.working = self.jobs.pop(0)
                self._save()
            on_start(name)
            with self._lock:
                self._begin(name)

    def _begin(self, name: str) -> None:
        asked = read_json(self._asked(name, "json"))
        words = [self._mark(name) if word == "CONFIG" else word for word in asked["words"]]
        log = self._folders.logs / f"{name}.log"
        with log.open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "posedance.pipeline", *words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._children[child.pid] = child
        self._process = psutil.Process(child.pid)

    def _finish(self, name: str) -> None:
        """A job's process is gone: say so in its log, and begin again one that was killed from outside."""
        pid = 0 if self._process is None else self._process.pid
        child = self._children.pop(pid, None)
        code = None if child is None else child.wait()
        self.working, self._process = None, None
        cancelled = self._vanished.get(name) == -1
        if code in (0, 3) or cancelled:
            self._say(name, "ended: stopped" if cancelled else "ended")
        elif not self._told_its_end(name) and not self._looks_done(name):
            tries = self._vanished.get(name, 0) + 1
            self._vanished[name] = tries
            if tries < ATTEMPTS:
                logger.info(f"{name}: its process vanished: begun again")
                self.jobs.insert(0, name)
            else:
                self._say(name, f"error: the command ended without a word, {tries} times")
        elif "is in use by process" in last_error(self._folders, name)[0]:
            self.jobs.insert(0, name)  # it waits for the other
        self._save()

    def _looks_done(self, name: str) -> bool:
        """Whether the last that a job wrote are its results: for a process that was no child of ours."""
        lines = last_lines(self._folders.logs / f"{name}.log")
        return bool(lines) and (
            lines[-1].startswith(str(self._folders.jobs / name)) or lines[-1].endswith(WHERE_TO_LOOK)
        )

    def _say(self, name: str, line: str) -> None:
        with (self._folders.logs / f"{name}.log").open("a", encoding="utf-8") as log:
            log.write(f"\n{line}\n")

    def _save(self) -> None:
        told = {"paused": self.paused, "jobs": self.jobs, "working": self.working}
        write_text(self._path, json.dumps(told))


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs: one that ended and that nobody asked for its exit code does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
