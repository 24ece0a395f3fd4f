"""Train ControlNeXt for pictures: `run.py train image --base sd15`.

The loop, its checkpoints and its logs are those of the training for videos.
"""

import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....stages.image.bases import BORROWED, ORIGINALS, TINY, borrow_vae, cast_all
from ....stages.image.convert import CONTROL_FOLDER, save_pictures
from ....stages.svd.files.record import read_json
from ....stages.svd.files.weights import save_tensors
from ...job.job import file_digest
from ..card import training_notes
from ..loop import run_loop, training_folder
from ..model import check_replaceable
from .config import ImageTrainConfig
from .enlarging import EnlargingTask
from .plan import name_pictures, plan_pictures
from .start import SMALL
from .task import PictureTask
from .validation import validate, validate_enlarging

logger = logging.getLogger(__name__)

WEIGHTS = {"subset": "unet.safetensors", "increments": "unet_weight_increments.safetensors"}
"""File of what the network learned, as the published weights have it: its name tells what it holds."""

CARD = """# posedance pictures

ControlNeXt for pictures on {base} ({family}), trained by posedance: its control module is in `{folder}/`,
{weights}

- Condition: {condition}. Control scale in training: {scale}.
- Data: {data}.
- Licence: that of the base, and of the data.

| network | parameters that learned |
|---|---|
| control module | {control:,} |
| {network} | {learned:,} |

## Training

{notes}
"""


def train_pictures(config: ImageTrainConfig) -> Path:
    """Train; returns the folder OUTPUT/model with the averaged weights, which `load_pictures` reads."""
    folder = config.output / "model"
    with training_folder(config.output) as main:
        if main:
            check_replaceable(folder)
            logger.info(plan_pictures(config))
        task = PictureTask(config) if config.begin is None else EnlargingTask(config)
        rates = {"controlnext": config.module_rate}
        identity = identity_of_pictures(config)
        figures = (
            partial(validate_enlarging, task) if isinstance(task, EnlargingTask) else partial(validate, task)
        )
        averaged = run_loop(task, config.loop, config.output, identity, figures, rates)
        if not main:
            return folder
        averaged.swap()
        task.injection.detach()
        task.to(torch.device("cpu"))
        return save_trained(task, folder, training_notes(config.output))


def save_trained(task: PictureTask, folder: Path, notes: str) -> Path:
    """Write what `config.save` asks for, in place of an earlier result.

    The module and increments are float32 (small numbers lose most in 16 bits), bases and subsets float16. Of
    a small base the module is float16 too, and its VAE is left to the model that it is from.
    """
    config = task.config
    small = config.base in SMALL or (Path(config.base) / BORROWED).is_file()
    partial_folder = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    if small and config.save != "increments":
        nn.Module.half(task.module)
    if config.save == "whole":
        save_pictures(cast_all(task.pipeline, torch.float16), task.module, partial_folder)
        if small:
            borrowed = Path(config.base) / BORROWED
            borrow_vae(partial_folder, "demo" if config.base in SMALL else read_json(borrowed)["vae"])
        said = "the base with the weights put on beside it."
    else:
        task.module.save_pretrained(partial_folder / CONTROL_FOLDER)
        if task.learned:
            save_tensors(partial_folder / WEIGHTS[config.save], learned_weights(task))
            said = f"what the network learned in `{WEIGHTS[config.save]}`."
        else:
            said = "and the network is the base's."
    sizes = [sum(task.network.get_parameter(name).numel() for name in task.learned)]
    sizes.append(sum(p.numel() for p in task.module.parameters()))
    card = CARD.format(
        base=Path(config.base).name or config.base,
        family=task.family,
        folder=CONTROL_FOLDER,
        weights=said,
        condition=config.data.condition,
        scale=config.scale,
        data=name_pictures(config.data),
        control=sizes[1],
        network=type(task.network).__name__,
        learned=sizes[0],
        notes=notes,
    )
    (partial_folder / "README.md").write_text(card)
    (partial_folder / "training.json").write_text(json.dumps(config.model_dump(mode="json"), indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial_folder.rename(folder)
    return folder


def learned_weights(task: PictureTask) -> dict[str, torch.Tensor]:
    """The network's weights that learned: themselves in float16, or their increments in float32."""
    now = {name: task.network.get_parameter(name).detach().cpu() for name in task.learned}
    if task.config.save == "subset":
        return {name: value.half().contiguous() for name, value in now.items()}
    return {name: (value - task.before[name]).contiguous() for name, value in now.items()}


def identity_of_pictures(config: ImageTrainConfig) -> dict[str, Any]:
    """What decides the numbers of a training, as plain data; weights and pictures count by their content."""
    places = {"folder", "dataset", "workers"}
    left_out = {
        "output": True,
        "save": True,
        "gradient_checkpointing": True,
        "base": True,
        "controlnext": True,
        "words": True,
    }
    settings = config.model_dump(mode="json", exclude=left_out | {"base_config": True, "data": places})
    if not config.data.drawn():
        listing = [(path.name, path.stat().st_size) for path in config.data.files().files()]
        settings["data"]["files"] = listing
    settings["base"] = digest(config.base)
    settings["words"] = None if config.words is None else digest(str(config.words))
    settings["controlnext"] = None if config.controlnext is None else digest(str(config.controlnext))
    return settings


def digest(source: str) -> str | dict[str, str]:
    """A base or a module by the content of its weight files; one on the hub by its name."""
    path = Path(source)
    if source in ORIGINALS or source in TINY or not path.exists():
        return source
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.suffix in (".safetensors", ".bin", ".json"))
    return {str(file.relative_to(path)): file_digest(file) for file in files}
