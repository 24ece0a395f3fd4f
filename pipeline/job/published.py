"""`published.json`: what a job whose results lie in a store says of itself.

It comes from a place where others may write, so nothing in it is taken unseen: its shape is checked, its
names stay inside the job, and a file counts as the one that was published by the store's word for it, or by
its bytes where the store says something else.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from .job import Key
from .storage import Statement, bytes_digest, get_text, statement, statements_in, url_of

PUBLISHED = "published.json"
LARGEST = 4 * 2**20
"""Bytes of a published.json that is read: ours have some thousands."""


def inside(name: str) -> str:
    """The name of a file in a job folder. ValueError for one that leads out of it."""
    if name != PurePosixPath(name).as_posix() or "\\" in name or not name.isprintable():
        raise ValueError("is no plain name of a file")
    if name.startswith("/") or ".." in name.split("/") or name in ("", "."):
        raise ValueError("leads out of the job's folder")
    return name


def notes_are_lines(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a step, whose notes are shown to the user. ValueError where they are no lines of text."""
    notes = facts.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) and note.isprintable() for note in notes):
        raise ValueError("notes are no lines of text")
    return facts


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Shape(BaseModel):
    """Base of what follows: nothing else may be in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PublishedFile(Shape):
    """A file of a job. `said` is what the store said of it after it was copied there."""

    size: Annotated[int, Field(ge=0)]
    sha256: Digest
    said: str | None = None


class PublishedStep(Shape):
    """The record of a step (`Job.commit`)."""

    step: str
    key: Digest
    files: dict[Annotated[str, AfterValidator(inside)], PublishedFile]
    facts: Annotated[dict[str, Any], AfterValidator(notes_are_lines)]


class PublishedInput(Shape):
    """An input that is a URL: what its store said of it, and the digest of its bytes then."""

    said: str
    sha256: Digest


class Published(Shape):
    """A published job. Inputs are listed by the SHA-256 of their URL, which may hold credentials."""

    steps: dict[str, PublishedStep] = {}
    inputs: dict[Digest, PublishedInput] = {}

    def has(self, keys: Mapping[str, Key]) -> bool:
        """Whether all steps of these keys were published. Files are not looked at."""
        return all(step in self.steps and self.steps[step].key == key for step, key in keys.items())

    def digest_of(self, path: Path) -> str | None:
        """The digest of an input that is a URL, if it is known and its store still says the same of it."""
        url = url_of(path)
        if url is None or (known := self.inputs.get(name_of_input(url))) is None:
            return None
        return known.sha256 if statement(path) == known.said else None


def name_of_input(url: str) -> str:
    """Under which name an input is listed."""
    return hashlib.sha256(url.encode()).hexdigest()


def read_published(url: str) -> Published:
    """What is published at `url`; nothing where there is nothing, or what is there is not of this shape."""
    text = get_text(f"{url}/{PUBLISHED}", LARGEST)
    if text is None:
        return Published()
    try:
        return Published.model_validate_json(text)
    except ValidationError:
        return Published()


def is_public(name: str) -> bool:
    """Whether a file of a job folder is copied to the store."""
    return not name.startswith(".work")


def is_whole(
    url: str, published: Published, keys: Mapping[str, Key], there: Mapping[str, Statement] | None = None
) -> bool:
    """Whether a job of these keys lies at `url` with the files that were published with it.

    One of another time, as while a job is published anew, has another size, or the store says something else
    of it and its bytes are others. `there` is what the store says of the files, where that is known already.
    """
    if not published.has(keys):
        return False
    if there is None:
        there = statements_in(url)
    return all(
        name in there and there[name].size == file.size
        and (there[name].said == file.said or bytes_digest(f"{url}/{name}") == file.sha256)
        for step in keys
        for name, file in published.steps[step].files.items()
        if is_public(name)
    )  # fmt: skip
