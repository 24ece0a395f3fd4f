"""`teach`: the shipped model learns one real dancer from one video.

    the dancer's poses -> clips in shards -> the VAE's decoder learns their looks -> UNet and ControlNeXt
    learn them in motion -> a model folder

Each step is a command of its own: `pose`, `train shards`, `train vae`, `train`. What is done stays in the job
folder; how many steps each training takes is settled once, by its speed here and the minutes that are left.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...stages import quality
from ...stages.atomic import atomic_path, partial_folder
from ...stages.errors import ConfigError
from ...stages.media.picture import write_png
from ...stages.models import GENERATORS, load_generator
from ...stages.svd.files.record import RECORD
from ..animate.pose import pose as find_poses
from ..config import PoseConfig
from ..evaluate.model import draw_sheet
from ..job.job import file_digest, hold_folder, write_text
from ..train.config import TrainConfig
from ..train.data import DataConfig, held_out_clips, make_shards
from ..train.log import read_log
from ..train.loop_config import LoopConfig
from ..train.model import check_replaceable, recorded
from ..train.train import train
from ..train.vae import VaeConfig, train_vae
from .config import TeachConfig

logger = logging.getLogger(__name__)

PROBE = 10
"""Steps that tell how fast a training is here."""
DECODER_SHARE = 0.25
"""The decoder's share of the time for learning: its steps are fewer, and it starts nearer (assumed)."""
DECODER_RATE, DECODER_WEIGHT = 4e-4, 12.0
"""Learning rate, and weight of hands and faces, as in configs/train/demo_decoder.yaml."""
RATE = 4e-4
"""Learning rate of UNet and ControlNeXt, as in configs/train/demo_large.yaml."""
AVERAGE = 0.98
"""Decay of the averaged weights: some hundred steps must not remember the first ones."""
COOLDOWN = 0.6
"""Share of the steps in which the learning rate falls to 0."""
HELD_OUT = 2
"""Clips at the end of the video that are not learned, for the figures."""


def teach(config: TeachConfig, base: Path | None = None) -> Path:
    """Teach the shipped model (or that in `base`) the dancer of a video; returns the model's folder.

    Raises ConfigError without a video, for one that is too short, and for a job folder of another video.
    """
    if config.video is None:
        raise ConfigError("--video is missing: name a video of the dancer")
    if not config.video.is_file():
        raise ConfigError(f"there is no video {config.video}: check the path")
    shipped = GENERATORS["demo"].shipped if base is None else base
    assert shipped is not None
    check_replaceable(config.output)
    job = config.output.with_name(f"{config.output.name}.job")
    began = time.monotonic()

    def left() -> float:
        return 60 * config.minutes - (time.monotonic() - began)

    with hold_folder(job):
        refuse_another(config, job)
        recipe = recipe_of(shipped, shards_of(config, job, shipped), config.seed)
        figures = Figures(job, recipe.data)
        reserve = figures.measure("before", shipped)
        decoder = teach_decoder(recipe, job, shipped, DECODER_SHARE * (left() - reserve))
        taught = teach_network(recipe, job, decoder, left() - reserve)
        figures.measure("after", taught)
        figures.tell()
        publish(taught, config.output)
    return config.output


def refuse_another(config: TeachConfig, job: Path) -> None:
    """ConfigError where the job folder is of another video or other options: minutes may change."""
    assert config.video is not None
    asked = config.model_dump(mode="json", include={"stride", "person", "seed"})
    asked["video"] = file_digest(config.video)
    path = job / "asked.json"
    if path.exists() and json.loads(path.read_text()) != asked:
        raise ConfigError(f"{job} is of another video or other options: choose another --output")
    write_text(path, json.dumps(asked, indent=1) + "\n")


def shards_of(config: TeachConfig, job: Path, shipped: Path) -> DataConfig:
    """The video as clips in shards, made once; returns the data to learn from."""
    assert config.video is not None
    told = json.loads((shipped / "training.json").read_text())["data"]
    shape = {name: told[name] for name in ("width", "height", "canvas", "frames")}
    data = DataConfig(**shape, spacing=max(1, told["spacing"]), workers=0)
    shards = job / "shards"
    if not shards.is_dir():
        options = PoseConfig(
            driving=config.video, output=job / "poses", stride=config.stride, person=config.person
        )
        find_poses(options)
        clips = job / "video"
        clips.mkdir(exist_ok=True)
        video = clips / f"dancer{config.video.suffix}"
        video.unlink(missing_ok=True)
        video.symlink_to(config.video.absolute())
        shutil.copy(job / "poses" / "poses.npz", clips / "dancer.npz")
        partial = partial_folder(shards)
        shutil.rmtree(partial, ignore_errors=True)
        make_shards(data.model_copy(update={"videos": clips}), partial, per_shard=100)
        partial.rename(shards)
    return data.model_copy(update={"shards": shards})


def recipe_of(shipped: Path, data: DataConfig, seed: int) -> TrainConfig:
    """How the shipped model was trained last, on these clips, with a loop for a short training."""
    told = json.loads((shipped / "training.json").read_text())
    told["model"] |= {"base": str(shipped), "vae": None, "image_encoder": None, "unet": None}
    told["model"] |= {"controlnext": None}
    told["loop"] |= {
        "steps": PROBE,
        "seed": seed,
        "learning_rate": RATE,
        "warmup": PROBE,
        "cooldown": 0,
        "accumulation": 1,
        "ema": AVERAGE,
        "checkpoint_every": 25,
        "log_every": PROBE,
        "validate_every": 10**9,
    }
    told |= {"data": data.model_dump(), "video": True, "batch": 1, "palette": 0.0, "latents": None}
    return TrainConfig.model_validate(told | {"cache_latents": True})


def teach_decoder(recipe: TrainConfig, job: Path, shipped: Path, seconds: float) -> Path:
    """The VAE whose decoder has learned the dancer's looks: its folder."""
    config = VaeConfig(
        output=job / "decoder",
        decoder_of=shipped / "vae",
        norm_groups=recorded(shipped).get("vae", 1),
        batch=1,
        frames=4,
        small=DECODER_WEIGHT,
        data=recipe.data,
        loop=recipe.loop.model_copy(update={"learning_rate": DECODER_RATE, "weight_decay": 0.0}),
    )
    loop = settled(
        config.loop, config.output, seconds, lambda loop: train_vae(config.model_copy(update={"loop": loop}))
    )
    return train_vae(config.model_copy(update={"loop": loop}))


def teach_network(recipe: TrainConfig, job: Path, decoder: Path, seconds: float) -> Path:
    """The model whose UNet and ControlNeXt have learned the dancer too: its folder."""
    model = recipe.model.model_copy(update={"vae": decoder})
    config = recipe.model_copy(update={"output": job / "network", "model": model})
    loop = settled(
        config.loop, config.output, seconds, lambda loop: train(config.model_copy(update={"loop": loop}))
    )
    return train(config.model_copy(update={"loop": loop}))


def settled(
    loop: LoopConfig, folder: Path, seconds: float, run: Callable[[LoopConfig], object]
) -> LoopConfig:
    """The loop with the steps that fit in `seconds` here, kept in the folder: a stopped run takes the same.

    Its first steps are run for that, and count.
    """
    path = folder / "steps.json"
    if not path.exists():
        began = time.monotonic()
        run(loop)
        speed = [entry["steps_per_s"] for entry in read_log(folder) if "steps_per_s" in entry][-1]
        rest = seconds - (time.monotonic() - began)
        write_text(path, json.dumps(max(loop.steps, round(loop.steps + rest * speed))))
    steps = int(json.loads(path.read_text()))
    logger.info(f"{folder.name}: {steps} steps")
    return loop.model_copy(update={"steps": steps, "cooldown": round(COOLDOWN * (steps - loop.steps))})


class Figures:
    """PSNR on frames of the video that are not learned, and a sheet of them, before and after."""

    def __init__(self, job: Path, data: DataConfig) -> None:
        self._job, self._clips = job, held_out_clips(data, HELD_OUT)

    def measure(self, when: str, model: Path) -> float:
        """Let a model dance the held-out clips, once; returns how many seconds that took."""
        path = self._job / f"{when}.npz"
        if not path.exists():
            began, generator, outputs = time.monotonic(), load_generator(str(model)), []
            for clip in self._clips:
                latents = generator.denoise(clip.frames[0], clip.control, generator.settings())
                outputs.append(np.stack(list(generator.decode(latents, generator.settings()))))
            seconds = time.monotonic() - began
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, frames=np.stack(outputs), seconds=seconds)
        with np.load(path, allow_pickle=False) as kept:
            return float(kept["seconds"])

    def tell(self) -> dict[str, Any]:
        """Say the figures, and write them and the sheet."""
        figures: dict[str, Any] = {}
        sheets = []
        for when in ("before", "after"):
            with np.load(self._job / f"{when}.npz", allow_pickle=False) as kept:
                outputs = list(kept["frames"])
            pairs = list(zip(outputs, self._clips, strict=True))
            values = [quality.psnr(output, clip.frames[1:]) for output, clip in pairs]
            figures[f"psnr_{when}"] = round(float(np.mean(values)), 3)
            sheets.append(draw_sheet(self._clips, outputs, columns=3))
        logger.info(
            f"on {sum(len(clip.frames) - 1 for clip in self._clips)} frames that it never saw: PSNR "
            f"{figures['psnr_before']:.1f} dB before, {figures['psnr_after']:.1f} dB after"
        )
        write_text(self._job / "figures.json", json.dumps(figures, indent=1) + "\n")
        write_png(self._job / "sheet.png", np.concatenate(sheets))
        return figures


def publish(taught: Path, output: Path) -> None:
    """Copy the model to where it was asked for, whole or not at all."""
    partial = partial_folder(output)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(taught, partial)
    if output.exists():
        shutil.rmtree(output)
    partial.rename(output)
    assert (output / RECORD).is_file()
