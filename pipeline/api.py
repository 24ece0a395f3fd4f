"""The names of `posedance.pipeline` that users need: `from posedance.pipeline import AnimateConfig`.

Nothing inside the package imports this file but `pipeline/__init__.py`, which does so when the first of the
names is asked for. The functions have names beside those of the folders `animate/` and `batch/`.
"""

from .animate.animate import animate as animate_video
from .animate.animate import plan as plan_video
from .animate.pose import pose as find_poses
from .animate.recorded import read_settings
from .batch.batch import batch as animate_batch
from .config import (
    AnimateConfig,
    ApproximateConfig,
    BatchConfig,
    ClipConfig,
    EncodeConfig,
    EstimatorConfig,
    PoolConfig,
    PoolsConfig,
    WeightsConfig,
    WindowConfig,
)

__all__ = [
    "AnimateConfig",
    "ApproximateConfig",
    "BatchConfig",
    "ClipConfig",
    "EncodeConfig",
    "EstimatorConfig",
    "PoolConfig",
    "PoolsConfig",
    "WeightsConfig",
    "WindowConfig",
    "animate_batch",
    "animate_video",
    "find_poses",
    "plan_video",
    "read_settings",
]
