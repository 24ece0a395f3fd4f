"""`curate review`: what people say of clips, kept beside the table and applied at once."""

import csv
import io
from pathlib import Path

from ...stages.errors import ConfigError
from ..config import resolve
from ..job.job import write_text
from .config import CurateConfig
from .curate import OVERRIDES, curate, overrides_of
from .sources import read_overrides
from .table import TABLE, read_table


def review(root: Path, overrides: Path) -> int:
    """Add the rows of a CSV to what people said before, and decide anew; returns the exit code of `curate`.

    A clip that is kept now and was not measured to the end is measured; no source is looked at that was not
    before. Raises ConfigError for a folder without a curation, and for clips that the table does not have.
    """
    if not (root / TABLE).is_file():
        raise ConfigError(f"{root} has no {TABLE}: run curate with -o {root} first")
    known = {(row["source"], row["start_frame"]) for row in read_table(root / TABLE)}
    said = read_overrides(overrides)
    for source, start in said:
        if (source, start) not in known:
            raise ConfigError(f"{overrides}: {source} has no clip from frame {start} on: see {root / TABLE}")
    config = resolve(CurateConfig, CurateConfig(), root / "config.yaml")
    both = {**overrides_of(root), **said}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "start_frame", "status"))
    writer.writerows((source, start, status) for (source, start), status in sorted(both.items()))
    write_text(root / OVERRIDES, text.getvalue())
    here = config.model_copy(update={"output": root, "limit": None, "shard": None})
    return curate(here, new_sources=False)
