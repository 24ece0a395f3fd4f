"""What decides a curation: the thresholds are the rows of the table of scores."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field, create_model

from ...datasets.curation.scores import SCORES, Score
from ..config import EstimatorConfig, PoolConfig
from ..config_base import Config, FrameRate, Hidden, Rare, Seconds

LARGEST_SOURCE = 4096 * 2304
"""Pixels of a frame that is read, unless more is asked for: 4K. Training reads a tenth of that."""
FUNCTION = r"^\w+(\.\w+)+$"


def threshold_of(score: Score) -> Any:
    """The model of one filter's bounds, with its row's as defaults."""
    bound = float | None
    least = "Least that is kept." if score.at_least is None else f"Less is refused: {score.says}."
    most = "Most that is kept." if score.at_most is None else f"More is refused: {score.says}."
    return create_model(
        f"{score.name.title().replace('_', '')}Threshold",
        __base__=Config,
        __doc__=f"Refused as: {score.says}.",
        at_least=(bound, Field(score.at_least, description=least)),
        at_most=(bound, Field(score.at_most, description=most)),
    )


if TYPE_CHECKING:
    Thresholds = Config
else:
    _models = {score.name: threshold_of(score) for score in SCORES}
    Thresholds = create_model(
        "Thresholds",
        __base__=Config,
        __doc__="Bounds of each score: what lies outside is refused. null takes a bound away.",
        **{name: (model, model()) for name, model in _models.items()},
    )


class AestheticsConfig(Config):
    """A score of your own: a function of a clip's pictures."""

    function: Annotated[str | None, Field(pattern=FUNCTION)] = None
    """Dotted name of a function that takes pictures uint8 RGB [N, H, W, 3] and returns a number."""
    at_least: float | None = None
    """Less is refused."""
    at_most: float | None = None
    """More is refused."""


class FinderConfig(Config):
    """How poses are found. Who counts as a person is decided by the scores."""

    name: Literal["mediapipe", "dwpose", "rtmw"] = "mediapipe"
    """Pose estimator; `run.py doctor` tells which ones work here."""
    detector: Annotated[Path | None, Rare] = None
    """ONNX file of the person detector, for dwpose and rtmw."""
    model: Annotated[Path | None, Rare] = None
    """Model file: ONNX for dwpose and rtmw; for mediapipe 0.10 a pose_landmarker .task (the body's network,
    heavy for one), for mediapipe 1 and later the holistic_landmarker .task."""

    def whole(self) -> EstimatorConfig:
        """This estimator with the options that other commands give one."""
        return EstimatorConfig(name=self.name, detector=self.detector, model=self.model)


class ClipEncodeConfig(Config):
    """How clips are written."""

    crf: Annotated[int, Field(ge=0, le=51)] = 18
    """x264 constant rate factor: lower is better and larger."""
    preset: Literal["veryfast", "medium", "slow"] = "veryfast"
    """x264 speed preset: slower ones make smaller files."""


class CurateConfig(Config):
    """What becomes of a folder of raw videos, and how that runs."""

    sources: Path | None = None
    """Folder of raw videos, with all folders below it."""
    output: Annotated[Path, Parameter(alias="-o")] = Path("out/curation")
    """Folder for table, shards and report. The same command again goes on where it was."""
    manifest: Path | None = None
    """CSV with a column `source` (paths below --sources, or their file names) and `licence`, for the card."""
    width: Annotated[int, Field(ge=16)] = 576
    """Width in pixels of what is to be trained: with the height, the aspect of the crops."""
    height: Annotated[int, Field(ge=16)] = 1024
    """Its height. Larger crops are scaled down to it, smaller ones stay as they are."""
    longest: Annotated[Seconds, Field(gt=0)] = Fraction(60)
    """Seconds of a clip at most: longer shots are split evenly."""
    fps: Annotated[FrameRate, Field(gt=0)] = Fraction(15)
    """Frames a second at most: of faster sources every second, third, ... frame is taken."""
    per_shard: Annotated[int, Field(ge=1)] = 100
    """Clips in one tar."""
    videofolder: bool = False
    """Write Hugging Face's layout too: `videofolder/` with metadata.jsonl."""
    published: bool = False
    """Write the layout of the published training too: `published/` with meta_info.json."""
    captions: Annotated[str | None, Field(pattern=FUNCTION)] = None
    """Dotted name of a function of a kept clip's pictures, uint8 RGB [N, H, W, 3], that returns text."""
    aesthetics: AestheticsConfig = AestheticsConfig()
    estimator: FinderConfig = FinderConfig()
    shots: Literal["adaptive", "transnet"] = "adaptive"
    """How cuts are found: `transnet` finds dissolves too (needs posedance[transnet])."""
    thresholds: Annotated[Thresholds, Parameter(group="Thresholds")] = Thresholds()
    encode: Annotated[ClipEncodeConfig, Rare] = ClipEncodeConfig()
    max_pixels: Annotated[int, Field(gt=0), Rare] = LARGEST_SOURCE
    """Pixels of the largest frame of a source that is used."""
    executor: Literal["ray", "local"] = "ray"
    """`ray`: many workers, here or on a cluster. `local`: one task at a time in this process."""
    ray_address: str | None = None
    """Ray cluster: `auto` inside one, or HOST:PORT [default: RAY_ADDRESS if set, or this machine alone]."""
    attempts: Annotated[int, Field(ge=1)] = 3
    """How often a task is tried before its source or clip is given up."""
    timeout: Annotated[float, Field(gt=0)] = 1800
    """Seconds without progress after which a worker is killed and replaced."""
    retry_quarantined: bool = False
    """Try again what an earlier run gave up."""
    limit: Annotated[int | None, Field(ge=1)] = None
    """Look at no more than this many of the sources that were not looked at yet."""
    shard: Annotated[str | None, Field(pattern=r"^\d+/\d+$")] = None
    """i/n with i from 0: measure only the i-th of n parts of the sources, for n runs side by side on one
    output folder; a run without --shard then writes table and shards."""
    workers: Annotated[PoolConfig, Hidden] = PoolConfig()
    """Workers, and what each takes [default: one for each core]."""
