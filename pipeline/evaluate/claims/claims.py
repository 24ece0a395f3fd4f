"""ControlNeXt's claims on a small network: `run.py evaluate claims --output out/claims`.

The paper (arXiv:2408.06070) claims that one light module, cross-normalized and added at one place, needs far
fewer parameters than ControlNet's copy of the encoder, costs less at inference, and learns faster. Here the
same UNet is controlled in each way, with the same data, noise, steps and seed.

- The base stands for the pretrained Stable Video Diffusion: a UNet that has learned to make a picture of the
  referenced dancer without any pose, from the same data. It knows how dancers look, and not where. The
  shipped demo model would not do, since it has grown up with ControlNeXt; its VAE and image encoder serve.
- Every way starts from this base. The whole UNet learns along in each of them, as in the training that was
  published for Stable Video Diffusion. ControlNet's authors lock the base instead: `--learn none` does, for
  all alike, and `--learn to_out+to_v` is the selection that the paper names.
- One learning rate for all, constant after a short warm-up, so that every step can be compared. No setting
  was tuned for one of them.
- Pose error is the wrists', in percent of the height, on characters and motions never seen (`pose_errors`).
  The parts' positions by colour, as in `evaluate model`, are in the JSON file; at this size and after so few
  steps too few colours are right for them.
"""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ....stages.errors import ConfigError
from ....stages.models import load_generator
from ...config import JsonFile
from ...config_base import Config, Hidden
from ...job.job import hold_folder
from ...progress import stage
from ...train.config import DropoutConfig, LossWeights, SigmaConfig, TrainConfig
from ...train.data import DataConfig
from ...train.identity import identity_of
from ...train.latents import LatentCache
from ...train.log import LOG, read_log
from ...train.loop import run_loop
from ...train.loop_config import LoopConfig
from ...train.model import ControlNeXtConfig, ModelConfig, Parts, UnetConfig, new_controlnext, new_unet
from ...train.start import start_unet_as_reference
from ..bench.compare import medians
from ..figures import write_figures
from ..model import HeldOutClip, held_out
from .report import draw_plot, table
from .size import published_size
from .task import APART, BASE, METHODS, ClaimsTask, thinned, training_step

logger = logging.getLogger(__name__)

SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""When pose error is taken, as shares of the steps: at 100, 200, 400, 1000 and 2000 of 2000."""
REPEATS = 9
"""Each timing is the median of this many."""


class ClaimsConfig(Config):
    """What is compared."""

    output: Path = Path("out/claims")
    """Folder for clips, checkpoints, logs and the plot; a stopped run goes on from there."""
    steps: Annotated[int, Field(multiple_of=20, ge=20)] = 2000
    """Steps that each way of control learns; pose error is taken at 5, 10, 20, 50 and 100 % of them."""
    base_steps: Annotated[int, Field(ge=1)] = 3000
    """Steps that the base learns before, without control."""
    learn: Literal["none", "to_out+to_v", "all"] = "all"
    """Which of the base's parameters learn on with the control, in every way alike."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides initial weights, data and noise."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Characters in a batch, one picture of each."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's, for the base and for every way of control."""
    strength: Annotated[float, Field(gt=0)] = 1.0
    """How strongly ControlNeXt's features are injected, as in training the demo model."""
    held_out: Annotated[int, Field(ge=2)] = 8
    """Characters that are measured, each with one motion."""
    moments: Annotated[int, Field(ge=2)] = 8
    """Frames of each that are measured."""
    width: Annotated[int, Field(multiple_of=8, ge=32), Hidden] = 48
    """Width in pixels."""
    height: Annotated[int, Field(multiple_of=8, ge=32), Hidden] = 80
    """Height in pixels."""
    clips: Annotated[int, Field(ge=1), Hidden] = 400
    """Characters to learn from."""
    unet: Annotated[UnetConfig, Hidden] = UnetConfig(widths=(32, 64), attention=(False, True))
    """The base."""
    controlnext: Annotated[ControlNeXtConfig, Hidden] = ControlNeXtConfig(
        stem=16,
        in_channels=(32, 32),
        out_channels=(32, 32),
        groups=(1, 1),
        stem_groups=1,
        mid_groups=1,
        time=64,
    )
    """The light module."""
    json_file: JsonFile = None
    """File that gets the figures."""

    @property
    def measured_at(self) -> list[int]:
        """Steps at which pose error is taken."""
        return [round(self.steps * share) for share in SHARES]

    def training(self, method: str) -> TrainConfig:
        """How one way of control, or BASE, is trained."""
        base = method == BASE
        steps = self.base_steps if base else self.steps
        return TrainConfig(
            output=self.output / method,
            model=ModelConfig(
                unet=self.unet,
                controlnext=None if base else self.controlnext,
                strength=1.0 if base else self.strength,
                sigma_max=80.0,
                noise_aug=0.0,
                width=self.width,
                height=self.height,
                steps=4,
                guidance_scale=1.0,
            ),
            data=DataConfig(
                width=self.width,
                height=self.height,
                canvas=6 * self.width,
                clips=self.clips,
                frames=5,
                cache=self.output / "clips",
                workers=0,
            ),
            learn="all" if base else self.learn,
            video=False,
            batch=self.batch,
            sigma=SigmaConfig(name="log-normal", mean=1.0, std=1.5, low=0.02, high=80.0),
            dropout=DropoutConfig(token=(0.0, 0.0), image=(0.0, 0.0)),
            weights=LossWeights(body=2.0, face=3.0, small=6.0),
            still_reference=1.0,
            cache_latents=True,
            loop=LoopConfig(
                steps=steps,
                seed=self.seed,
                learning_rate=self.learning_rate,
                warmup=20,
                betas=(0.9, 0.99),
                weight_decay=0.001,
                ema=0.99,
                validate_every=steps if base else steps // 20,
            ),
        )


def evaluate_claims(config: ClaimsConfig) -> dict[str, Any]:
    """Train the base and every way of control, or go on with them; all figures, said as a table too.

    Writes `claims.png` into the output folder, and JSON if asked. Raises OutputError where another process
    works in the folder.
    """
    with hold_folder(config.output):
        return _compare(config)


def _compare(config: ClaimsConfig) -> dict[str, Any]:
    size = config.width, config.height
    held: list[HeldOutClip] = []
    with stage("draw", config.held_out, "clip") as done:
        for number in range(config.held_out):
            held.append(held_out(config.seed, number, APART * config.moments, size, 6 * config.width))
            done(1)
    cache = LatentCache()
    base = run(config, BASE, None, held, cache)
    state = {name: value.clone() for name, value in base.parts.unet.state_dict().items()}
    results: dict[str, Any] = {}
    tasks: dict[str, ClaimsTask] = {}
    for method in METHODS:
        tasks[method] = run(config, method, state, held, cache)
        results[method] = {
            "trainable_parameters": count(tasks[method]),
            "at_step": read_figures(config.output / method, config.measured_at),
        }
    for method, seconds in time_steps(config, tasks).items():
        results[method]["step_s"] = seconds
    without, with_control = time_inference(tasks, thinned(held[0]))
    for method, seconds in with_control.items():
        results[method] |= {"inference_s": seconds, "inference_overhead": seconds / without - 1}
    figures = {
        "methods": results,
        "inference_without_control_s": without,
        "without_control": base.figures(),
        "ceiling": base.ceiling(),
        "published_size": published_size(),
        "threads": torch.get_num_threads(),
        "config": config.model_dump(mode="json", exclude={"output", "json_file"}),
    }
    logger.info(table(figures))
    draw_plot(figures, config.output / "claims.png")
    write_figures(config.json_file, figures)
    return figures


def run(
    config: ClaimsConfig,
    method: str,
    base: Mapping[str, torch.Tensor] | None,
    held: list[HeldOutClip],
    cache: LatentCache,
) -> ClaimsTask:
    """Train one way of control from the base's weights, or the base itself; the task has the averaged ones.

    `cache` holds latents that all tasks share.
    """
    training = config.training(method)
    logger.info(f"{method}: {training.loop.steps} steps")
    moments = frozenset(() if method == BASE else config.measured_at)
    task = ClaimsTask(method, training, new_parts(config, base), held, moments)
    task.cache = cache
    identity = identity_of(training) | {"method": method, "base_steps": config.base_steps}
    run_loop(task, training.loop, training.output, identity, task.validate).swap()
    return task


def new_parts(config: ClaimsConfig, base: Mapping[str, torch.Tensor] | None) -> Parts:
    """The demo model's VAE and image encoder, a UNet from `base` or from its start, a new ControlNeXt."""
    demo: Any = load_generator("demo").to("cpu", torch.float32)
    latents = demo.vae.config["latent_channels"]
    torch.manual_seed(config.seed)
    unet = new_unet(config.unet, latents, demo.image_encoder.config.projection_dim)
    if base is None:
        start_unet_as_reference(unet, latents, demo.vae.config["scaling_factor"])
    else:
        unet.load_state_dict(base)
    controlnext = new_controlnext(config.controlnext, config.unet.widths[0])
    return Parts(unet, controlnext, demo.vae, demo.image_encoder, {"unet": config.unet.norm_groups})


def read_figures(
    folder: Path, steps: list[int], known_by: str = "part_error_percent"
) -> dict[str, dict[str, float]]:
    """The figures that the training in `folder` logged at these steps. ConfigError where one is missing.

    Entries of the log that have figures are known by the name of one.
    """
    found = {entry.pop("step"): entry for entry in read_log(folder) if known_by in entry}
    missing = [step for step in steps if step not in found]
    if missing:
        raise ConfigError(
            f"{folder / LOG} has no figures of step {missing[0]}, for it was made with other --steps: "
            "name another --output"
        )
    return {str(step): found[step] for step in steps}


def count(task: ClaimsTask) -> dict[str, int]:
    """Parameters that learn: the control's own, and the base's."""
    sizes = {"control": 0, "unet": 0}
    for name, parameter in task.trainable():
        sizes["unet" if name.startswith("unet.") else "control"] += parameter.numel()
    return sizes


def time_steps(config: ClaimsConfig, tasks: Mapping[str, ClaimsTask]) -> dict[str, float]:
    """Median seconds of one training step of each task, in turns. It changes their weights."""
    first = next(iter(tasks.values()))
    batch: Any = next(iter(first.batches(0, 1, range(1))))
    steps = {name: training_step(task, batch, config.learning_rate) for name, task in tasks.items()}
    return medians(steps, REPEATS)


def time_inference(tasks: Mapping[str, ClaimsTask], clip: HeldOutClip) -> tuple[float, dict[str, float]]:
    """Median seconds of sampling one clip's latents without control, and with each, in turns."""
    conditions = next(iter(tasks.values())).conditions(clip)
    runs = {name: partial(task.sample, *conditions) for name, task in tasks.items()}
    runs[BASE] = partial(next(iter(tasks.values())).sample, *conditions, controlled=False)
    seconds = medians(runs, REPEATS)
    return seconds.pop(BASE), seconds
