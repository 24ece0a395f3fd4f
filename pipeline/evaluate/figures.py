"""What a command that measures leaves: its figures as a table for the user, and as JSON where asked."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..job.job import write_text

logger = logging.getLogger(__name__)


def log_figures(figures: Mapping[str, Any]) -> None:
    """One line for each figure."""
    for name, value in figures.items():
        logger.info(f"{name:<28}{value:.3f}" if isinstance(value, float) else f"{name:<28}{value}")


def write_figures(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON, whole or not at all, where a path is given. Makes its folder."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(figures, indent=1) + "\n")
