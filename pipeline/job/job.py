"""A job folder: what is done, under which key, and how a killed run goes on.

Work is at-least-once, outputs are exactly-once. Each step writes its files under a temporary name, moves them
into place, and then commits a record: the step's key (a hash of everything that decides its result) and each
file's size, time of change and SHA-256. A step is done only when its record has the asked key and every file
matches it, so a half-written file, a changed option or a changed input is never taken for finished work. A
file of the recorded size and time is not read again; `forget_damaged` reads all.

    out/result.mp4 ...            what the user came for
    out/.work/records/STEP.json   the records
    out/.work/...                 what later steps read: poses, latents, checkpoints
"""

import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...stages.atomic import atomic_path, is_temporary
from ...stages.errors import ConfigError, OutputError, UnavailableError
from ...stages.media.numbered import numbered_pictures
from ..progress import still_here
from .once import once
from .storage import digest_at, url_of
from .system_errors import NO_LOCKS

logger = logging.getLogger(__name__)

Key = str
"""SHA-256, in hex, of what decides a step's result."""

Known = Callable[[Path], str | None]
"""Tells the digest of an input that is a URL where it is known without reading it."""

LOCK_POLL_S = 0.1
"""How often a lock that another holds is tried again, in seconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """An open job folder. Get one from `open_job`."""

    folder: Path

    @property
    def work(self) -> Path:
        """Where intermediate files are kept."""
        return self.folder / ".work"

    def record_path(self, step: str) -> Path:
        return self.work / "records" / f"{step}.json"

    def is_done(self, step: str, key: Key) -> bool:
        """Whether `step` was committed under `key` and all its files are still what was committed.

        A file whose time of change is another one is read.
        """
        record = read_record(self.record_path(step))
        return (
            record is not None
            and record.get("key") == key
            and all(matches(self.folder / name, entry) for name, entry in record["files"].items())
        )

    def holds(self, step: str, key: Key) -> bool:
        """Whether `step` was committed under `key` and its files are there. Their content is not read."""
        record = read_record(self.record_path(step))
        return (
            record is not None
            and record.get("key") == key
            and all(has_size(self.folder / name, entry) for name, entry in record["files"].items())
        )

    def commit(
        self, step: str, key: Key, files: Sequence[Path], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Record that `files` (inside the folder) are the result of `step` under `key`."""
        entries = {
            str(path.relative_to(self.folder)): {
                "size": path.stat().st_size,
                "mtime_ns": path.stat().st_mtime_ns,
                "sha256": file_digest(path),
            }
            for path in files
        }
        record = {"step": step, "key": key, "files": entries, "facts": dict(facts or {})}
        write_text(self.record_path(step), json.dumps(record, indent=1))

    def forget_damaged(self, steps: Iterable[str]) -> list[str]:
        """Let steps count as not done of which a file that is there has other bytes; returns them."""
        damaged = []
        for step in steps:
            files = (read_record(self.record_path(step)) or {}).get("files", {})
            there = [(self.folder / name, entry) for name, entry in files.items()]
            if any(path.is_file() and file_digest(path) != entry["sha256"] for path, entry in there):
                logger.warning(f"{self.folder}: the files of step {step} are damaged and made again")
                self.record_path(step).unlink()
                damaged.append(step)
        return damaged

    def facts(self, step: str) -> dict[str, Any]:
        """What `step` said about its result when it was committed."""
        record = read_record(self.record_path(step))
        return {} if record is None else record["facts"]

    def _remove_other(self, step: str, files: Sequence[Path]) -> None:
        """Remove what `step` made under another key, and will not replace with any of `files`."""
        record = read_record(self.record_path(step))
        for name, entry in ({} if record is None else record["files"]).items():
            if self.folder / name not in files and matches(self.folder / name, entry):
                (self.folder / name).unlink()

    def drop(self, step: str) -> None:
        """Remove what `step` made, but no file that was changed since, and let it count as not done."""
        self._remove_other(step, ())
        self.record_path(step).unlink(missing_ok=True)

    def run(
        self,
        step: str,
        key: Key,
        files: Sequence[Path],
        make: Callable[[], Mapping[str, Any] | None],
    ) -> bool:
        """Call `make` unless `step` is done under `key`, then commit. Returns whether it was called.

        Its facts' `notes`, lines for the user, are said in either case.
        """
        needed = not self.is_done(step, key)
        if needed:
            self._remove_other(step, files)
            self.record_path(step).unlink(missing_ok=True)
            facts = make()
            self.commit(step, key, files, facts)
        for note in self.facts(step).get("notes", ()):
            logger.info(f"{step}: {note}")
        return needed


@contextmanager
def open_job(folder: Path, patience_s: float = 0) -> Iterator[Job]:
    """Make or reopen a job folder and hold its lock, so that two runs never write to it at once.

    The lock is the kernel's: it goes with the process, however that ends. Temporary files that a killed run
    left are removed. Raises OutputError when the folder cannot be written or another run holds it for longer
    than `patience_s` seconds.
    """
    make_folder(folder)
    with hold(folder, folder / ".work" / "lock", patience_s):
        sweep(folder)
        yield Job(folder)


def sweep(folder: Path) -> None:
    """Remove what a killed run left half written in a job folder, and no file of anybody else."""
    for path in (*folder.glob(".*"), *(folder / ".work").rglob(".*")):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a job folder. Raises OutputError where nothing can be written."""
    make_writable(folder, folder / ".work" / "records")


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make an output folder that is no job's and hold it alone, so that two runs never write to it at once.

    Raises OutputError where nothing can be written or another process holds it.
    """
    make_writable(folder, folder)
    with hold(folder, folder / ".lock"):
        yield


@contextmanager
def hold_beside(folder: Path) -> Iterator[None]:
    """Hold an output folder whose files are the result alone, by a lock file beside it; see `hold_folder`."""
    place = folder.absolute()
    make_writable(place.parent, place.parent)
    with hold(folder, place.with_name(f".{place.name}.lock")):
        yield


def make_writable(folder: Path, inner: Path) -> None:
    """Make `folder` and `inner` in it. Raises OutputError where nothing can be written."""
    if (url := url_of(folder)) is not None:
        raise OutputError(f"cannot work in {url}: this command needs a folder of this machine")
    try:
        inner.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to output folder {folder}: {error.strerror}: name another with --output"
        ) from error


@contextmanager
def hold(folder: Path, path: Path, patience_s: float = 0, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path` that guards `folder`, alone or with others who hold it `shared`.

    Raises UnavailableError when another process holds it for longer than `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    with path.open("a+") as lock:
        while True:
            try:
                fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() < deadline:
                    still_here("waiting")
                    time.sleep(LOCK_POLL_S)
                    continue
                lock.seek(0)
                raise UnavailableError(
                    f"output folder {folder} is in use by process {lock.read().strip() or '?'}: "
                    "wait for it, or name another with --output"
                ) from error
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                raise OutputError(
                    f"{folder} lies on a file system without locks ({error.strerror}), where two runs could "
                    "spoil each other's work: name an --output on another"
                ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def key_of(step: str, version: int, **inputs: Any) -> Key:
    """Key of a step: hash of its name, the version of its code, and plain data: all that decides its result.

    `version` is raised when the same inputs no longer give the same result.
    """
    text = json.dumps({"step": step, "version": version, **inputs}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def unknown(path: Path) -> None:
    """Nothing is known of any input."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_digest(path: Path, known: Known = unknown) -> str:
    """SHA-256 of an input file, in hex; read again only when its size or its time of change differs.

    Of a folder it is that of the names and digests of the files in it, not of folders below; of a pattern of
    pictures (frame_%04d.png) that of theirs in order. A URL's file counts by its bytes too; they are not read
    where `known` tells the digest. Raises ConfigError where there is no such file.
    """
    if url_of(path) is not None:
        return known(path) or digest_at(path)
    return _local_digest(path)


@once
def _local_digest(path: Path) -> str:
    if not path.is_dir() and (pictures := numbered_pictures(path)) is not None:
        return hashlib.sha256(" ".join(map(source_digest, pictures)).encode()).hexdigest()
    try:
        about = path.stat()
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}: was it moved?") from error
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        listed = "".join(f"{file.name} {source_digest(file)}\n" for file in files)
        return hashlib.sha256(listed.encode()).hexdigest()
    return _digest_at(path, about.st_size, about.st_mtime_ns, about.st_ino)


@cache
def _digest_at(path: Path, size: int, changed: int, inode: int) -> str:
    return file_digest(path)


def has_size(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether there is a file of the recorded size."""
    try:
        return path.stat().st_size == entry["size"] and path.is_file()
    except (FileNotFoundError, NotADirectoryError):
        return False


def matches(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is the one that was recorded: of its size, and of its time of change or its content."""
    return has_size(path, entry) and (
        path.stat().st_mtime_ns == entry.get("mtime_ns") or file_digest(path) == entry["sha256"]
    )


def read_record(path: Path) -> dict[str, Any] | None:
    """A step's record, or None where there is none that can be read: the step is then not done."""
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    complete = isinstance(record, dict) and isinstance(record.get("files"), dict) and "facts" in record
    return record if complete else None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
