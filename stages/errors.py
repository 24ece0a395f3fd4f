"""Everything posedance raises on purpose.

    PosedanceError
    ├── ConfigError            an option or a config file that cannot be used
    ├── DeviceMemoryError      more memory is needed than the device has
    ├── PictureError           a picture that cannot be read
    ├── VideoError             a video that cannot be read or written
    ├── PoseError              no person, or a pose file that cannot be used
    ├── WeightsError           weights that are missing, of the wrong shape, or unsafe to load
    ├── OutputError            an output that cannot be written
    │   └── UnavailableError   a store or a folder that cannot be had now, and perhaps soon
    ├── TrainingDivergedError  a training whose numbers no step should follow
    ├── StoppedError           a step that ended at its checkpoint, since the run was asked to end
    └── CancelledError         a step that ended, since its video was cancelled

Each carries one message that says what is wrong, which value, and what to do. The command line prints
that message alone and exits with code 2. One string is the only argument, so every error survives pickling.

Others never reach a user. `LostWorker` (pipeline/workers/window_pool.py) tells a pool that a worker died:
its calls go to another. `_AbandonedError` (stages/media/encode.py) gives up a file that was begun.
"""


class PosedanceError(Exception):
    """Base of every error that a user can act on."""


class ConfigError(PosedanceError):
    """An option or a config file cannot be used."""


class DeviceMemoryError(PosedanceError):
    """A device has less memory than the work needs, also in its smallest pieces."""


class PictureError(PosedanceError):
    """A picture cannot be read."""


class VideoError(PosedanceError):
    """A video cannot be read or written."""


class PoseError(PosedanceError):
    """No person was found, or a pose file cannot be used."""


class WeightsError(PosedanceError):
    """Weights are missing, of the wrong shape, or unsafe to load."""


class OutputError(PosedanceError):
    """An output cannot be written."""


class UnavailableError(OutputError):
    """A store cannot be reached, or another run holds a folder: it may be had a little later."""


class TrainingDivergedError(PosedanceError):
    """The loss or the gradient is no longer a number, or the loss far above where it was."""


class StoppedError(PosedanceError):
    """A step ended at a checkpoint, where the next run goes on."""


class CancelledError(PosedanceError):
    """A step ended, for its video is not wanted any more."""
