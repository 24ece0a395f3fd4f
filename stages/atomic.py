"""Files appear whole or not at all: written beside their place, synced, then renamed."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.posedance\.tmp", re.DOTALL)
"""What `temporary_name` gives, and nobody else: what may be removed where a killed run left it."""
PARTIAL = ".posedance.partial"


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` for a file that is not whole yet, of a random number."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.posedance.tmp")


def is_temporary(path: Path) -> bool:
    """Whether `path` is a file that `temporary_name` named."""
    return TEMPORARY.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def left_behind(path: Path) -> list[Path]:
    """Files that killed processes left beside `path` where they were writing it."""
    names = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.posedance\.tmp")
    beside = path.parent.glob(".*") if path.parent.is_dir() else ()
    return [found for found in beside if names.fullmatch(found.name) and is_temporary(found)]


def partial_folder(folder: Path) -> Path:
    """The hidden name, beside it, of a folder that is not whole, yet or any more."""
    return folder.with_name(f".{folder.name}{PARTIAL}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; on a clean exit sync that file and move it to `path`.

    After an exception, KeyboardInterrupt included, the temporary file is gone and `path` is as it was. A
    process that is killed leaves a hidden `.NAME.XXXXXXXX.posedance.tmp` behind, never half a `path`. An
    OSError becomes an OutputError.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, give a file name")
    temporary = temporary_name(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"cannot write {path}: {reason}: choose a folder that exists, can be written, and has space left"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
