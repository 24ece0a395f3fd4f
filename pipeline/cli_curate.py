"""The commands `curate` and `curate review`; loaded only when one of them is used."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .config import ConfigFile, resolve
from .curate.config import CurateConfig

curate_app = App(name="curate", help="Make training shards of a folder of raw videos.")


@curate_app.default
def make(
    *,
    options: Annotated[CurateConfig, Parameter(name="*")] = CurateConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> int:
    """Make training shards of a folder of raw videos, and a table that says what became of every clip.

    Exit code 0 when all is done, 3 when some sources or clips were given up.
    """
    from .curate.curate import curate

    return curate(resolve(CurateConfig, options, config))


@curate_app.command
def review(folder: Path, overrides: Path, /) -> int:
    """Keep or reject clips by hand: apply a CSV with the columns source, start_frame and status.

    status is kept or rejected. It is remembered in overrides.csv, also for later runs of curate.

    Parameters
    ----------
    folder
        Output folder of curate.
    overrides
        The CSV.
    """
    from .curate.review import review as apply

    return apply(folder, overrides)
