"""Files appear whole or not at all: written beside their place, synced, then renamed."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; on a clean exit sync that file and move it to `path`.

    After an exception, KeyboardInterrupt included, the temporary file is gone and `path` is as it was. A
    process that is killed leaves a hidden `.NAME.XXXXXXXX.tmp` behind, never half a `path`. An OSError
    becomes an OutputError.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, give a file name")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
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
