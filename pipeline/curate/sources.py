"""The files of a folder of raw videos: which are sources, and why the others are none."""

import csv
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...stages.errors import ConfigError
from ..batch.manifest import read_manifest
from ..job.output import VIDEOS


@dataclass(frozen=True, slots=True)
class Source:
    """A file below the folder of sources. `name` is its path there; `refused` why it is no source, if so."""

    name: str
    path: Path
    refused: str | None = None

    @property
    def identity(self) -> str:
        """What its files in the work folder are called."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]


def find_sources(folder: Path, output: Path, manifest: Path | None = None) -> list[Source]:
    """All files below a folder in the order of their names, without hidden ones, `manifest` and `output`.

    Folders that links lead to are entered once. Raises ConfigError where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"--sources {folder} is no folder: name one with videos in it")
    left_out = {path.resolve() for path in (output, manifest) if path is not None}
    found = sorted(_walk(folder, folder, left_out, set()), key=lambda source: source.name)
    if not found:
        raise ConfigError(f"there is no file in --sources {folder}: name a folder with videos in it")
    return found


def _walk(folder: Path, root: Path, left_out: set[Path], entered: set[Path]) -> Iterator[Source]:
    here = folder.resolve()
    if here in entered | left_out:
        return
    entered.add(here)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Source(name_of(folder, root), folder, f"unreadable: {error.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        try:
            about = path.stat()
        except OSError as error:
            kind = "broken link" if path.is_symlink() else "unreadable"
            yield Source(name_of(path, root), path, f"{kind}: {error.strerror}")
            continue
        if stat.S_ISDIR(about.st_mode):
            yield from _walk(path, root, left_out, entered)
        elif here / entry.name not in left_out:
            yield Source(name_of(path, root), path, why_refused(path, about))


def name_of(path: Path, root: Path) -> str:
    """The path below the root, as text that any table holds."""
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def why_refused(path: Path, about: os.stat_result) -> str | None:
    """Why a file is no source, as far as that is known without opening it; None where it may be one."""
    if not stat.S_ISREG(about.st_mode):
        return "not a file: a device, pipe or socket"
    if path.suffix.lower() not in VIDEOS:
        return f"not a video: its name ends in {path.suffix or 'no suffix'}"
    if about.st_size == 0:
        return "empty: 0 bytes"
    return None


def read_licences(manifest: Path | None) -> dict[str, str]:
    """The licence of each source that a manifest names, by path or file name. Raises ConfigError."""
    if manifest is None:
        return {}
    licences = {}
    for number, row in enumerate(read_manifest(manifest), 1):
        if row.get("source") is None:
            raise ConfigError(f"{manifest}, row {number}: source is missing: name a file below --sources")
        licences[str(row["source"])] = str(row.get("licence") or "")
    return licences


def licence_of(name: str, licences: Mapping[str, str]) -> str:
    """The licence of a source by its path, or else by its file name; empty where none is given."""
    return licences.get(name) or licences.get(name.rpartition("/")[2]) or ""


def read_overrides(path: Path) -> dict[tuple[str, int], str]:
    """`kept` or `rejected` for clips (source, first frame).

    From a CSV with the columns source, start_frame and status. Raises ConfigError for anything else.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read {path}: {error}: give a CSV in UTF-8") from error
    found = {}
    for number, row in enumerate(rows, 1):
        try:
            source, start, status = row["source"], int(row["start_frame"]), row["status"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}, row {number}: expected the columns source, start_frame (a number) and status"
            ) from error
        if status not in ("kept", "rejected"):
            raise ConfigError(f"{path}, row {number}: status is {status!r}: write kept or rejected")
        found[source, start] = status
    return found
