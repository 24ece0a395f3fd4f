"""evaluation.json of a job: what was measured of its result, as long as that is the same result."""

import json
from pathlib import Path
from typing import Any

from .job import Job, read_record, write_text

NAME = "evaluation.json"


def write_evaluation(job: Job, figures: dict[str, Any]) -> None:
    """Keep the figures of a job's finished result."""
    record = read_record(job.record_path("result"))
    assert record is not None
    write_text(job.folder / NAME, json.dumps({"result": record["key"], **figures}, indent=1) + "\n")


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """The figures of the result that is there; None where nothing was measured, or of another result."""
    try:
        figures = json.loads((folder / NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    record = read_record(Job(folder).record_path("result"))
    if record is None or not isinstance(figures, dict) or figures.pop("result", None) != record.get("key"):
        return None
    return figures


def line_of(figures: dict[str, Any]) -> str:
    """The figures in one line."""

    def share(name: str) -> str:
        value = figures.get(name)
        return f"{value:.0%}" if isinstance(value, int | float) else "-"

    def number(name: str) -> str:
        value = figures.get(name)
        return f"{value:.1f}" if isinstance(value, int | float) else "-"

    return (
        f"pose found again {share('pose_found')}, joints off {number('error_percent')} % of the height, "
        f"PCK@0.1 {share('pck_10')}, hands {share('left_hand')} and {share('right_hand')}, "
        f"flicker {number('flicker')}, seams {number('seam_score')}, "
        f"colours off {number('background_first')} to {number('background_last')} (background), "
        f"{number('torso_first')} to {number('torso_last')} (torso)"
    )
