"""`character`: a reference image in a pose of the dance.

OUT/reference.png      the picture, for `animate --reference`
OUT/sheet.png          the pose (or edges) and all pictures side by side, with each one's error
OUT/character.json     how they were made
"""

from contextlib import closing
from pathlib import Path

from ...stages.errors import ConfigError
from ...stages.pose.files import load_poses
from ..animate.dance import clip_of
from ..animate.graph import STEPS, run, step_keys
from ..animate.tools import Tools
from ..config import write_yaml
from ..job.job import key_of, open_job, write_text
from ..job.output import refuse_video
from .config import CharacterConfig
from .following import Dance
from .painter import settled
from .painting import RESULTS, Wanted, paint_reference


def character(config: CharacterConfig) -> list[Path]:
    """Make the reference image that `config` asks for; returns what was written, the picture first.

    A stopped run goes on with the seeds that are not done. Raises ConfigError for a request that cannot be
    met, PoseError where the dance shows nobody.
    """
    refuse_video(config.output)
    alone = config.control is not None
    if config.driving is None and config.pose is None and not alone:
        raise ConfigError("--driving is missing: name a driving video, or a pose file with --pose")
    if not config.prompt and config.picture is None:
        raise ConfigError("--prompt is missing: say who is to dance, or give a picture of somebody")
    wanted = wanted_of(config)
    video = config.video()
    keys = {} if alone else step_keys(video, (STEPS["poses"],))
    key = key_of(
        "character",
        1,
        decided_by=wanted.decided_by(),
        reads=keys.get("poses"),
        frame=config.frame,
        seeds=list(wanted.seeds()),
        estimator=config.estimator.model_dump(mode="json"),
    )
    with open_job(config.output) as job, closing(Tools()) as tools:
        write_text(job.folder / "config.yaml", write_yaml(config))
        poses = None
        if not alone:
            run(job, STEPS["poses"], video, keys, tools)
            poses = load_poses(job.folder / "poses.npz")
        files = [job.folder / name for name in RESULTS]
        job.run("character", key, files, lambda: paint_reference(job, wanted, poses, tools))
    return files


def wanted_of(config: CharacterConfig) -> Wanted:
    """What a config asks for, at the model's own size where it names none."""
    own = settled(config, "character")
    assert own.width and own.height
    size = own.width, own.height
    dance = None if config.driving is None else Dance(config.driving, clip_of(config))
    return Wanted(config, config.prompt, size, config.estimator, config.device, config.precision, dance)
