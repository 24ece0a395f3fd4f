"""The names of `posedance.stages` that users need: `from posedance.stages import load_generator`.

Nothing inside the package imports this file but `stages/__init__.py`, which does so when the first of the
names is asked for.
"""

from .errors import (
    ConfigError,
    DeviceMemoryError,
    OutputError,
    PictureError,
    PosedanceError,
    PoseError,
    TrainingDivergedError,
    UnavailableError,
    VideoError,
    WeightsError,
)
from .generate import Checkpoint, ControlFrames, Defaults, Generator, Settings
from .image.api import attach_control, load_pictures, make_condition
from .media.audio import AudioSource
from .media.encode import VideoWriter, side_by_side
from .media.frames import StoredFrames, write_frames
from .media.picture import place, read_picture, write_png
from .media.placement import Placement, centre_crop, letterbox
from .media.sound import Sound, read_sound, write_sound
from .media.video import Clip, DecodeReport, clip_start, count_frames, output_rate, probe, read_frames
from .models import load_decoder, load_generator
from .pose.animatic.figure import PaperFigure
from .pose.base import Detections, PoseEstimator
from .pose.crop import place_around_pose
from .pose.estimators import make_estimator
from .pose.files import load_poses, openpose_frames, poses_of_layout, save_poses
from .pose.fit.affine import Alignment, placed_alignment
from .pose.fit.align import Fit, align, fit_alignment
from .pose.follow.report import PoseReport
from .pose.follow.track import estimate_picture, estimate_poses
from .pose.render import draw_control_frames, draw_overlay
from .types import NUM_KEYPOINTS, PoseSequence, VideoInfo

__all__ = [
    "NUM_KEYPOINTS",
    "Alignment",
    "AudioSource",
    "Checkpoint",
    "Clip",
    "ConfigError",
    "ControlFrames",
    "DecodeReport",
    "Defaults",
    "Detections",
    "DeviceMemoryError",
    "Fit",
    "Generator",
    "OutputError",
    "PaperFigure",
    "PictureError",
    "Placement",
    "PoseError",
    "PoseEstimator",
    "PoseReport",
    "PoseSequence",
    "PosedanceError",
    "Settings",
    "Sound",
    "StoredFrames",
    "TrainingDivergedError",
    "UnavailableError",
    "VideoError",
    "VideoInfo",
    "VideoWriter",
    "WeightsError",
    "align",
    "attach_control",
    "centre_crop",
    "clip_start",
    "count_frames",
    "draw_control_frames",
    "draw_overlay",
    "estimate_picture",
    "estimate_poses",
    "fit_alignment",
    "letterbox",
    "load_decoder",
    "load_generator",
    "load_pictures",
    "load_poses",
    "make_condition",
    "make_estimator",
    "openpose_frames",
    "output_rate",
    "place",
    "place_around_pose",
    "placed_alignment",
    "poses_of_layout",
    "probe",
    "read_frames",
    "read_picture",
    "read_sound",
    "save_poses",
    "side_by_side",
    "write_frames",
    "write_png",
    "write_sound",
]
