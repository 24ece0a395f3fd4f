"""What a step gets of the video of which it makes a part, and what it says about its result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import AnimateConfig
from ..job.job import Key

Facts = dict[str, Any]
"""What is recorded of a step's result, as plain data. `notes` are lines for the user."""


@dataclass(frozen=True, slots=True)
class Video:
    """One video in its job folder, as a step sees it: a step can open the files that it declares."""

    folder: Path
    config: AnimateConfig
    """What is asked for. The inputs that the step declares are files of this machine."""
    key: Key
    """The key of the step's own result."""
    reads: Mapping[str, tuple[Path, ...]]
    """The files of the steps that it reads, by the step's name."""
    writes: tuple[Path, ...]
    """The files that it is to write."""

    def read(self, step: str) -> Path:
        """The file of a step that it reads, of several the first."""
        return self.reads[step][0]

    @property
    def output(self) -> Path:
        """The file that it is to write, of several the first."""
        return self.writes[0]

    @property
    def reference(self) -> Path:
        """The reference image: the user's own, or the one that was painted."""
        return self.config.reference or self.reads["character"][0]
