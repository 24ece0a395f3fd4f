"""Runs side by side on one output folder: which part of the work each takes, and which files are its own."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from ...stages.errors import ConfigError
from ..job.job import hold

LOCK_PATIENCE_S = 1.0
"""How long a run waits for the folder's lock, for `status` tries it for a moment."""
BEATS = Path(".work", "workers")
"""Where workers say, one file each, what they do."""


class Named(Protocol):
    """What a shard is chosen by."""

    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


def shard_of(items: list[NamedT], shard: str | None) -> list[NamedT]:
    """The items of one shard, i/n: by hash of the name, so that every run of a job array agrees."""
    if shard is None:
        return items
    part, parts = (int(number) for number in shard.split("/"))
    if part >= parts:
        raise ConfigError(f"--shard {shard}: the parts of {parts} are 0/{parts} to {parts - 1}/{parts}")
    return [item for item in items if int(hashlib.sha256(item.name.encode()).hexdigest(), 16) % parts == part]


def part_of(shard: str | None) -> str:
    """What the names of a shard's own files end in: "-0-of-2" for 0/2, nothing for a run of the whole."""
    return "" if shard is None else f"-{shard.replace('/', '-of-')}"


def shard_named(part: str) -> str:
    """The shard whose files end in `part`; empty for a run of the whole."""
    return part.removeprefix("-").replace("-of-", "/")


@contextmanager
def held(root: Path, shard: str | None) -> Iterator[None]:
    """Hold an output folder: alone, or one shard of it beside the others. UnavailableError if others do."""
    lock = root / ".work" / "lock"
    with hold(root, lock, LOCK_PATIENCE_S, shared=shard is not None), ExitStack() as stack:
        if shard is not None:
            stack.enter_context(hold(root, lock.with_name(f"lock{part_of(shard)}")))
        yield


def beats_folder(root: Path, shard: str | None) -> Path:
    """A new folder in which the workers of this run say that they live."""
    folder = root / BEATS / (part_of(shard).removeprefix("-") or "all")
    shutil.rmtree(folder, ignore_errors=True)  # what workers of a killed run said
    folder.mkdir(parents=True)
    return folder
