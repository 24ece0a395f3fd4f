"""The table of models for pictures: who paints where the user names no base.

To ship one: a folder that `train image --save whole` or `convert` wrote, and its row in PAINTERS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import ConfigError

Task = Literal["character", "upscale"]
"""What a model paints: a reference image in a pose of the dance, or a frame that is larger."""


@dataclass(frozen=True, slots=True)
class PictureModel:
    """A row of the table: what `load_pictures` reads, and what the model is asked for by default."""

    base: str
    """A folder, or the name of a tiny base with random weights."""
    defaults: Mapping[str, int | float] = field(default_factory=dict)
    """Options of its task (`steps`, `guidance_scale`, ...) that differ from those of OTHERS."""
    trained: bool = True
    canny: str = ""
    """Folder of `train image --save subset` with what follows edges instead of poses, if there is one."""


SHIPPED = Path(__file__).parents[1]
"""Folder with the models that are part of the package."""
PAINTERS: dict[Task, PictureModel] = {
    "character": PictureModel(
        str(SHIPPED / "painter"),
        {"steps": 10, "guidance_scale": 2.0, "width": 80, "height": 128, "canvas": 432},
        canny=str(SHIPPED / "painter" / "canny"),
    ),
    "upscale": PictureModel(
        str(SHIPPED / "upscaler"), {"steps": 10, "strength": 0.1, "tile": 128, "overlap": 32}
    ),
}
"""The model of each task."""
OTHERS: dict[Task, Mapping[str, int | float]] = {
    "character": {
        "steps": 20,
        "guidance_scale": 7.5,
        "strength": 0.75,
        "width": 576,
        "height": 1024,
        "canvas": 2160,
    },
    "upscale": {"steps": 20, "guidance_scale": 1.0, "strength": 0.4, "tile": 512, "overlap": 64},
}
"""What models are asked for that the user names."""


def painter_of(task: Task) -> PictureModel:
    """The model of a task. ConfigError where the files that its row names are missing."""
    model = PAINTERS[task]
    if model.trained and not (Path(model.base) / "model_index.json").is_file():
        raise ConfigError(
            f"the model for {task} is not part of this installation ({model.base}): name another with --base"
        )
    return model


def defaults_of(task: Task, base: str | None) -> dict[str, int | float]:
    """What is asked for by default of the base that the user names, or of the table's own model."""
    return {**OTHERS[task], **(PAINTERS[task].defaults if base is None else {})}
