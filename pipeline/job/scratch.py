"""The folder of this user for copies and unfinished work, under the system's temporary folder."""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from ...stages.errors import OutputError


def scratch(*parts: str) -> Path:
    """A folder in `posedance-UID` of the temporary folder (TMPDIR), made where it is not there.

    Others may write to the temporary folder, and what lies in ours is taken for our own work: OutputError
    where it is a symlink or no folder, belongs to another user, or is open to others.
    """
    root = Path(tempfile.gettempdir(), f"posedance-{os.getuid()}")
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    about = root.lstat()
    fault = None
    if not stat.S_ISDIR(about.st_mode):
        fault = "is a symlink" if stat.S_ISLNK(about.st_mode) else "is no folder"
    elif about.st_uid != os.getuid():
        fault = "belongs to another user"
    elif about.st_mode & 0o077:
        fault = f"is open to other users (mode {about.st_mode & 0o777:o}, 700 is wanted)"
    if fault is not None:
        raise OutputError(f"{root} {fault}: remove it, or set TMPDIR to a folder of your own")
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scratch_for(url: str) -> Path:
    """The folder where the outputs that belong to a URL are made."""
    return scratch("outputs", hashlib.sha256(url.encode()).hexdigest()[:16])
