"""Results whose output folder is a URL: made in a scratch folder of this machine, then copied to the store.

    URL/result.mp4 ...       what users come for, each file whole or not at all
    URL/published.json       the records of the job, last: with it the job is done, on any machine

What later steps read (control frames, latents, checkpoints) stays in the scratch folder. On the same machine
a stopped run goes on from there; on another one a job that is not published begins anew.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .job import Job, Key, read_record, write_text
from .storage import get_text, put, remove, size_of, url_of

logger = logging.getLogger(__name__)

PUBLISHED = "published.json"


def is_published(url: str, keys: Mapping[str, Key]) -> bool:
    """Whether a job of these keys lies at `url`, with all its files in their sizes."""
    records = published_records(url)
    return all(step in records and records[step].get("key") == key for step, key in keys.items()) and all(
        size_of(f"{url}/{name}") == entry["size"]
        for step in keys
        for name, entry in records[step]["files"].items()
        if is_public(name)
    )


def published_records(url: str) -> dict[str, Any]:
    """The records of the steps of the job at `url`; none where it is not published, or not readable."""
    text = get_text(f"{url}/{PUBLISHED}")
    try:
        records = {} if text is None else json.loads(text)
    except ValueError:
        return {}
    return records if isinstance(records, dict) else {}


def is_public(name: str) -> bool:
    """Whether a file of a job folder is copied to the store."""
    return not name.startswith(".work")


def public_names(records: Mapping[str, Any]) -> set[str]:
    """The files of these records that are copied to the store."""
    return {name for record in records.values() for name in record["files"] if is_public(name)}


def publish(job: Job, url: str, keys: Mapping[str, Key]) -> None:
    """Copy a finished job to `url`, its records last. What lies there of other records is replaced.

    The old records go first, so that they never stand over files of another job.
    """
    records = {step: record for step in keys if (record := read_record(job.record_path(step))) is not None}
    names = public_names(records)
    old = public_names(published_records(url)) - names
    remove(f"{url}/{PUBLISHED}")
    for name in sorted(old):
        remove(f"{url}/{name}")
    for name in sorted(names):
        put(job.folder / name, f"{url}/{name}")
    put(job.folder / "environment.json", f"{url}/environment.json")
    for name, text in (("config.yaml", own_config(job, url)), (PUBLISHED, json.dumps(records, indent=1))):
        copy = job.work / name
        write_text(copy, text)
        put(copy, f"{url}/{name}")
    logger.info(f"published {url}")


def own_config(job: Job, url: str) -> str:
    """The job's config.yaml with URLs written out, and the URL for its output."""
    config = yaml.safe_load((job.folder / "config.yaml").read_text(encoding="utf-8")) | {"output": url}
    for option, value in config.items():
        if isinstance(value, str):
            config[option] = url_of(Path(value)) or value
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def is_done_at(url: str | None, job: Job, keys: Mapping[str, Key]) -> bool:
    """Whether a job is done, in its folder or, where results go to a URL, at the URL.

    Afterwards it is known in both: one that is done here alone is published, and of one that is done there
    alone the records come here.
    """
    here = all(job.is_done(step, key) for step, key in keys.items())
    if url is None:
        return here
    there = is_published(url, keys)
    if here and not there:
        publish(job, url, keys)
    elif there and not here:
        (job.work / "records").mkdir(parents=True, exist_ok=True)
        for step, record in published_records(url).items():
            write_text(job.record_path(step), json.dumps(record, indent=1))
    return here or there
