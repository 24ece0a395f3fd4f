"""Results whose output folder is a URL: made in a scratch folder of this machine, then copied to the store.

    URL/result.mp4 ...       what users come for, each file whole or not at all
    URL/published.json       the records of the job, last: with it the job is done, on any machine

What later steps read (control frames, latents, checkpoints) stays in the scratch folder. On the same machine
a stopped run goes on from there; on another one a job that is not published begins anew.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...stages.errors import UnavailableError
from .inputs import BESIDE, file_beside
from .job import Job, Key, read_record, source_digest, write_text
from .masking import masked
from .published import (
    PUBLISHED,
    Published,
    PublishedInput,
    PublishedStep,
    is_public,
    is_whole,
    name_of_input,
    read_published,
)
from .storage import Statement, is_file, put, remove, statement, statements_in, url_of

logger = logging.getLogger(__name__)


def publish(job: Job, url: str, keys: Mapping[str, Key]) -> None:
    """Copy a finished job to `url`, its records last. What lies there of other records is replaced.

    The old records go first, so that they never stand over files of another job. UnavailableError where
    another run publishes to `url` meanwhile.
    """
    records = {step: record for step in keys if (record := read_record(job.record_path(step))) is not None}
    names = {name for record in records.values() for name in record["files"] if is_public(name)}
    before = read_published(url).steps.values()
    old = {name for step in before for name in step.files if is_public(name)} - names
    remove(f"{url}/{PUBLISHED}")
    for name in sorted(old):
        remove(f"{url}/{name}")
    for name in sorted(names):
        put(job.folder / name, f"{url}/{name}")
    put(job.folder / "environment.json", f"{url}/environment.json")
    config = yaml.safe_load((job.folder / "config.yaml").read_text(encoding="utf-8"))
    put_text(job, "config.yaml", own_config(config, url), url)
    if is_file(Path(f"{url}/{PUBLISHED}")):
        raise UnavailableError(f"another run publishes to {masked(url)} at the same time: give each its own")
    there = statements_in(url)
    for record in records.values():
        for name, entry in record["files"].items():
            entry["said"] = there[name].said if name in there else None
            entry.pop("mtime_ns", None)  # of this machine
    published = Published.model_validate({"steps": records, "inputs": inputs_of(config)})
    put_text(job, PUBLISHED, published.model_dump_json(indent=1), url)
    logger.info(f"published {masked(url)}")


def put_text(job: Job, name: str, text: str, url: str) -> None:
    """Copy a text to the file `name` at `url`."""
    copy = job.work / name
    write_text(copy, text)
    put(copy, f"{url}/{name}")


def own_config(config: Mapping[str, Any], url: str) -> str:
    """The job's config.yaml with URLs written out, but no credentials, and the URL for its output."""
    own = {**config, "output": url}
    for option, value in own.items():
        if isinstance(value, str):
            own[option] = url_of(Path(value)) or value
    return masked(yaml.safe_dump(own, sort_keys=False, allow_unicode=True))


def inputs_of(config: Mapping[str, Any]) -> dict[str, PublishedInput]:
    """What is known of those inputs of a config that are URLs, so that no machine reads them to compare."""
    found = {}
    for option, suffix in BESIDE.items():
        value = config.get(option)
        path = None if value is None else Path(value)
        for one in () if path is None else (path, file_beside(path, suffix)):
            url = None if one is None else url_of(one)
            if one is not None and url is not None and (said := statement(one)) is not None:
                found[name_of_input(url)] = PublishedInput(said=said, sha256=source_digest(one))
    return found


def is_done_at(
    url: str | None,
    job: Job,
    keys: Mapping[str, Key],
    published: Published,
    files: Mapping[str, Statement] | None = None,
) -> bool:
    """Whether a job is done, in its folder or, where results go to a URL, at the URL, by what it says.

    `files` is what the store says of those at the URL, where that is known already. Afterwards it is known in
    both: one that is done here alone is published, and of one that is done there alone the records come here.
    """
    here = all(job.is_done(step, key) for step, key in keys.items())
    if url is None:
        return here
    there = is_whole(url, published, keys, files)
    if here and not there:
        publish(job, url, keys)
    elif there and not here:
        (job.work / "records").mkdir(parents=True, exist_ok=True)
        for step in keys:
            write_text(job.record_path(step), record_of(published.steps[step]))
    return here or there


def record_of(step: PublishedStep) -> str:
    """The record of a published step as a job folder has it."""
    return step.model_dump_json(indent=1, exclude={"files": {"__all__": {"said"}}})
