"""What decides how a dancer is taught."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from ..config_base import Config, PersonText


class TeachConfig(Config):
    """Who is learned, from what, and for how long."""

    video: Path | None = None
    """Video of the dancer, all of the body, before a camera that stands still: 10 seconds or more."""
    output: Annotated[Path, Parameter(alias="-o")] = Path("out/my-dancer")
    """Folder of the model, for `animate --model`. What it is made from is kept in OUTPUT.job beside it: run
    the same command again to go on there."""
    minutes: Annotated[float, Field(gt=0, le=10_000)] = 30.0
    """How long it may take: as many steps are learned as fit in."""
    stride: Annotated[int, Field(ge=1)] = 2
    """Use every STRIDE-th frame of the video: about 15 a second are right."""
    person: PersonText | None = None
    """Who it is, where the video shows several: largest, left, right, center, 2 (the second from the left),
    X,Y or x0,y0,x1,y1 (who is first seen there, in pixels) [default: largest, and most constant]."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides the order of the clips and the noise."""
