"""The names of `posedance.pipeline` that users need: `from posedance.pipeline import AnimateConfig`.

Nothing inside the package imports this file but `pipeline/__init__.py`, which does so when the first of the
names is asked for. The functions have names beside those of the folders `animate/` and `batch/`.
"""

from .animate.animate import animate as animate_video
from .animate.animate import plan as plan_video
from .animate.pose import pose as find_poses
from .animate.recorded import read_settings
from .batch.batch import batch as animate_batch
from .character.options import CharacterOptions
from .config import (
    AcceptConfig,
    AnimateConfig,
    ApproximateConfig,
    BatchConfig,
    EncodeConfig,
    EstimatorConfig,
    PoolConfig,
    PoolsConfig,
    PoseConfig,
    WeightsConfig,
    WindowConfig,
)
from .upscale.options import UpscaleOptions

__all__ = [
    "AcceptConfig",
    "AnimateConfig",
    "ApproximateConfig",
    "BatchConfig",
    "CharacterOptions",
    "EncodeConfig",
    "EstimatorConfig",
    "PoolConfig",
    "PoolsConfig",
    "PoseConfig",
    "UpscaleOptions",
    "WeightsConfig",
    "WindowConfig",
    "animate_batch",
    "animate_video",
    "find_poses",
    "plan_video",
    "read_settings",
]
