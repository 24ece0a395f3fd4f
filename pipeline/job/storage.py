"""Files on other storage, named by URL: s3://, gs://, https:// and the others of SCHEMES.

Inputs are copied to this machine when they are read, outputs when they are finished. A URL travels in a Path,
which folds `//` into `/`: `s3:/bucket/x` is `s3://bucket/x`. Copies of inputs stay in the scratch folder, by
what the store says of their content, until someone removes them.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...stages.atomic import atomic_path, temporary_name
from ...stages.errors import ConfigError, OutputError, PosedanceError, UnavailableError
from .masking import masked
from .once import CALLS_AT_ONCE, foretell, in_parallel, once
from .scratch import scratch

FOLDED = re.compile(r"([a-z][a-z0-9+]+):/+(.*)", re.DOTALL)
"""A URL in a Path. A scheme has two letters or more, so a drive of Windows is none."""

SCHEMES = frozenset(
    {"abfs", "abfss", "az", "file", "gcs", "gs", "hf", "http", "https", "memory", "s3", "s3a"}
)
"""What URLs may begin with. fsspec knows more, and chains of them (`::`), some of which run what a file says:
a cell of a stranger's manifest must not choose them."""
SAYINGS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
"""How stores call what changes with the content of a file, the surest first."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a store says of a file: its size in bytes, and a text that changes with its content."""

    size: int
    said: str

    @property
    def tells(self) -> bool:
        """Whether it tells more than the size."""
        return self.said.strip() != str(self.size)


def url_of(path: Path) -> str | None:
    """The URL that `path` stands for; None where it is a path of this machine."""
    match = FOLDED.fullmatch(str(path))
    if match is None:
        return None
    scheme, rest = match.groups()
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest}"


@contextmanager
def store_of(url: str) -> Iterator[tuple[Any, str]]:
    """The store of a URL and the name of what it points to there; what goes wrong becomes one line.

    Raises ConfigError for a scheme that is not of SCHEMES, and for a chain of several.
    """
    import fsspec

    shown = masked(url)
    if (scheme := url.partition(":")[0]) not in SCHEMES or "::" in url:
        what = "a chain of stores" if "::" in url else f"a store of the kind {scheme}"
        raise ConfigError(f"{shown} names {what}, which is not read: use one of {', '.join(sorted(SCHEMES))}")
    try:
        yield fsspec.url_to_fs(url)
    except PosedanceError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {shown}: check the address") from error
    except ImportError as error:
        raise ConfigError(f"{shown}: {error}: try pip install 'posedance[cloud]'") from error
    except Exception as error:  # stores raise errors of their own libraries
        what = masked(" ".join(f"{type(error).__name__}: {error}".split()))
        refused = isinstance(error, (PermissionError, ValueError))  # a wrong address or no right to it
        kind = OutputError if refused else UnavailableError
        raise kind(f"cannot reach {shown}: {what}: check the address and your credentials") from error


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


def name_of(path: Path) -> str:
    """The name of a file, of a URL without its query, which may be long and hold credentials."""
    url = url_of(path)
    if url is not None and url.startswith("http"):
        return Path(url.partition("?")[0]).name
    return path.name


def beside(path: Path, name: str) -> Path | None:
    """The path in the same folder so named, or where `name` begins with a dot, of the same name but that end.

    None for a URL with a query, which is for one file.
    """
    if path.name != name_of(path):
        return None
    return path.with_suffix(name) if name.startswith(".") else path.with_name(name)


def stated(info: Mapping[str, Any]) -> Statement:
    """What fsspec passes on of a file."""
    said = ""
    for name in SAYINGS:
        if value := info.get(name):  # a time, which a listing may tell in seconds
            said = f"{name} {value.timestamp() if isinstance(value, datetime) else value}"
            break
    size = int(info["size"] or 0)
    return Statement(size, f"{size} {said}")


@once
def statement(path: Path) -> str | None:
    """What a store says of the content of a URL's file (size, ETag or time); None where there is no file."""
    url = url_of(path)
    assert url is not None
    with store_of(url) as (store, name):
        try:
            info = store.info(name)
        except FileNotFoundError:
            return None
        return stated(info).said if info["type"] == "file" else None


def statements_in(url: str) -> dict[str, Statement]:
    """What a store says of each file in the folder `url` now; nothing where there is no such folder."""
    with store_of(url) as (store, name):
        store.invalidate_cache()
        try:
            entries = store.ls(name, detail=True)
        except FileNotFoundError:
            return {}
        return {Path(entry["name"]).name: stated(entry) for entry in entries if entry["type"] == "file"}


def statements_below(url: str) -> dict[str, dict[str, Statement]]:
    """`statements_in` of each folder in the folder `url`, by its name; one listing tells all of them."""
    found: dict[str, dict[str, Statement]] = {}
    with store_of(url) as (store, name):
        store.invalidate_cache()
        try:
            entries = store.find(name, detail=True)
        except FileNotFoundError:
            return {}
        for path, entry in entries.items():
            folder, file = Path(path).parts[-2:]
            found.setdefault(folder, {})[file] = stated(entry)
    return found


def foresee(paths: Sequence[Path]) -> None:
    """Ask stores for the statements of these URLs, by a listing where several lie in one folder.

    For functions within `looking_once`. A few are left to be asked for one by one, for a folder may hold
    millions.
    """
    if len(paths) <= CALLS_AT_ONCE:
        return
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    shared = [folder for folder, asked in folders.items() if len(asked) > 1]
    for folder, there in zip(shared, in_parallel(listing, shared), strict=True):
        for path in folders[folder] if there else ():
            known = there.get(path.name)
            if known is None or known.tells:
                foretell(statement, path, None if known is None else known.said)


def listing(folder: Path) -> dict[str, Statement]:
    """What a store says of the files in a folder; nothing where it cannot list them."""
    url = url_of(folder)
    assert url is not None
    if url.startswith("http"):  # a page, which may link to anything
        return {}
    try:
        return statements_in(url)
    except OutputError:
        return {}


def bytes_digest(url: str) -> str:
    """SHA-256, in hex, of the bytes of a URL's file, which are read for it."""
    with store_of(url) as (store, name), store.open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@once
def digest_at(path: Path) -> str:
    """SHA-256 of a URL's file, in hex, so that it is the same wherever the bytes lie.

    They are read once, and again where the store says something else of the file. ConfigError where there is
    none.
    """
    url = url_of(path)
    assert url is not None
    if (said := statement(path)) is None:
        raise ConfigError(f"there is no file {masked(url)}: check the address")
    kept = scratch("digests") / hashlib.sha256(repr((url, said)).encode()).hexdigest()
    if not kept.is_file():
        digest = bytes_digest(url)
        with atomic_path(kept) as temporary:
            temporary.write_text(digest)
    return kept.read_text()


def localize(path: Path, other_name: str | None = None) -> Path:
    """A file of this machine with the content of `path`: itself, or a copy of what its URL points to.

    With `other_name` the file `beside` it is copied too, where it exists.
    """
    url = url_of(path)
    if url is None:
        return path
    other = None if other_name is None else beside(path, other_name)
    wanted = [path] if other is None else [path, other]
    said = [statement(one) for one in wanted]
    folder = scratch("inputs", hashlib.sha256(repr((url, said)).encode()).hexdigest()[:16])
    for one, there in zip(wanted, said, strict=True):
        if there is None and one is path:
            raise ConfigError(f"there is no file {masked(url)}: check the address")
        source, copy = url_of(one), folder / name_of(one)
        if there is not None and source is not None and not copy.is_file():
            with store_of(source) as (store, name), atomic_path(copy) as temporary:
                store.get_file(name, str(temporary))
    return folder / name_of(path)


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


def get_text(url: str, largest: int) -> str | None:
    """The text of a URL's file; None where there is none, and for more than `largest` bytes or no UTF-8."""
    with store_of(url) as (store, name):
        try:
            data = store.cat_file(name, start=0, end=largest + 1)
        except (FileNotFoundError, IsADirectoryError):
            return None
    try:
        return data.decode() if len(data) <= largest else None
    except UnicodeDecodeError:
        return None
