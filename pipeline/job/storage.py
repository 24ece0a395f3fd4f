"""Files on other storage, named by URL: s3://, gs://, memory://, file:// and what else fsspec knows.

Inputs are copied to this machine when they are read, outputs when they are finished. A URL travels in a Path,
which folds `//` into `/`: `s3:/bucket/x` is `s3://bucket/x`. Copies of inputs stay in the scratch folder, by
what the store says of their content, until someone removes them.
"""

import getpass
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...stages.atomic import atomic_path, temporary_name
from ...stages.errors import ConfigError, OutputError, PosedanceError, UnavailableError

FOLDED = re.compile(r"([a-z][a-z0-9+]+):/+(.*)", re.DOTALL)
"""A URL in a Path. A scheme has two letters or more, so a drive of Windows is none."""


def url_of(path: Path) -> str | None:
    """The URL that `path` stands for; None where it is a path of this machine."""
    match = FOLDED.fullmatch(str(path))
    if match is None:
        return None
    scheme, rest = match.groups()
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest}"


def scratch(*parts: str) -> Path:
    """A folder of this user for copies and unfinished work, under the system's temporary folder (TMPDIR)."""
    root = Path(tempfile.gettempdir(), f"posedance-{getpass.getuser()}")
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise OutputError(f"{root} belongs to another user: set TMPDIR to a folder of your own")
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scratch_for(url: str) -> Path:
    """The folder where the outputs that belong to a URL are made."""
    return scratch("outputs", hashlib.sha256(url.encode()).hexdigest()[:16])


@contextmanager
def store_of(url: str) -> Iterator[tuple[Any, str]]:
    """The store of a URL and the name of what it points to there; what goes wrong becomes one line."""
    import fsspec

    try:
        yield fsspec.url_to_fs(url)
    except PosedanceError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {url}") from error
    except ImportError as error:
        raise ConfigError(f"{url}: {error}: try pip install 'posedance[cloud]'") from error
    except Exception as error:  # stores raise errors of their own libraries
        what = " ".join(f"{type(error).__name__}: {error}".split())
        refused = isinstance(error, (PermissionError, ValueError))  # a wrong address or no right to it
        kind = OutputError if refused else UnavailableError
        raise kind(f"cannot reach {url}: {what}: check the address and your credentials") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file, here or in a store."""
    url = url_of(path)
    if url is None:
        return path.is_file()
    with store_of(url) as (store, name):
        return store.isfile(name)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, here or in a store."""
    url = url_of(path)
    if url is None:
        return path.is_dir()
    with store_of(url) as (store, name):
        return store.isdir(name)


def files_of_folder(path: Path) -> list[Path]:
    """The files in a folder, here or in a store, by name; hidden ones are left out."""
    url = url_of(path)
    if url is None:
        found = [file.name for file in path.iterdir() if file.is_file()]
    else:
        with store_of(url) as (store, name):
            entries = store.ls(name, detail=True)
            found = [Path(entry["name"]).name for entry in entries if entry["type"] == "file"]
    return [path / file for file in sorted(found) if not file.startswith(".")]


def content_key(path: Path) -> str | None:
    """What a store says of the content of a URL's file (size, ETag or time); None where there is no file."""
    url = url_of(path)
    assert url is not None
    with store_of(url) as (store, name):
        return str(store.ukey(name)) if store.isfile(name) else None


def localize(path: Path, beside: str | None = None) -> Path:
    """A file of this machine with the content of `path`: itself, or a copy of what its URL points to.

    With `beside` the file of the same name that ends so is copied too, where it exists.
    """
    url = url_of(path)
    if url is None:
        return path
    wanted = [path] if beside is None else [path, path.with_suffix(beside)]
    keys = [content_key(one) for one in wanted]
    folder = scratch("inputs", hashlib.sha256(repr((url, keys)).encode()).hexdigest()[:16])
    for one, key in zip(wanted, keys, strict=True):
        if key is None and one is path:
            raise ConfigError(f"there is no file {url}")
        source = url_of(one)
        if key is not None and source is not None and not (folder / one.name).is_file():
            with store_of(source) as (store, name), atomic_path(folder / one.name) as temporary:
                store.get_file(name, str(temporary))
    return folder / path.name


def put(source: Path, target: str) -> None:
    """Copy a file of this machine to a URL. It appears whole: an object store sees to that, else a rename."""
    with store_of(target) as (store, name):
        protocols = {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)
        local = "file" in protocols
        if local:
            store.makedirs(str(Path(name).parent), exist_ok=True)
        place = str(temporary_name(Path(name))) if local else name
        with source.open("rb") as data, store.open(place, "wb") as copy:
            shutil.copyfileobj(data, copy)
        if local:
            os.replace(place, name)


def remove(url: str) -> None:
    """Remove a URL's file, where there is one."""
    with store_of(url) as (store, name):
        if store.isfile(name):
            store.rm_file(name)


def get_text(url: str) -> str | None:
    """The text of a URL's file; None where there is none."""
    with store_of(url) as (store, name):
        return store.cat_file(name).decode() if store.isfile(name) else None


def size_of(url: str) -> int | None:
    """Bytes of a URL's file; None where there is none."""
    with store_of(url) as (store, name):
        return int(store.info(name)["size"]) if store.isfile(name) else None
