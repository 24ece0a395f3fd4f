"""What a training will do and need, before its first step and without any weights."""

import math
from dataclasses import dataclass

from torch import nn

from ...stages.svd.files.lora import is_lora
from .activations import activation_bytes, meta_parts
from .config import TrainConfig
from .data import describe_data
from .sharded import blocks_of
from .task import VideoTask

LABELS = {"unet": "UNet", "controlnext": "ControlNeXt", "vae": "VAE", "image_encoder": "image encoder"}
"""What the networks are called in the plan."""
EIGHT_BIT = 2 + 2 * 4 / 256
"""Bytes of both moments in bitsandbytes' blocks of 256, each with a scale of 4 bytes."""
SINGLE_NUMBERS = 1 << 20
"""Bytes of what no network makes: losses, norms of gradients, and their like. Assumed, not measured."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes on one device. `kept` and `checkpointed` are the activations without and with checkpointing;
    `update` is what AdamW makes meanwhile, when these are gone."""

    weights: dict[str, int]
    copies: int
    gradients: int
    moments: int
    average: int
    update: int
    kept: int
    checkpointed: int
    gathered: int = 0
    """Of a UNet that is cut over processes: the blocks that are whole at one time, and their gradients."""

    def total(self, checkpointing: bool) -> int:
        fixed = sum(self.weights.values()) + self.copies + self.gradients + self.moments + self.average
        fixed += self.gathered
        return fixed + max(self.update, self.checkpointed if checkpointing else self.kept) + SINGLE_NUMBERS


def plan(config: TrainConfig, cut: int = 1) -> str:
    """Lines for the user: what learns, from what, for how long, and the memory that each device needs.

    The UNet is cut over `cut` processes.
    """
    parts = meta_parts(config.model)
    task = VideoTask(config.model_copy(update={"latents": None, "gradient_checkpointing": False}), parts)
    counts = dict.fromkeys(task.modules, 0)
    for name, parameter in task.trainable():
        counts[name.partition(".")[0]] += parameter.numel()
    whole = sum(p.numel() for name, p in parts.unet.named_parameters() if not is_lora(name))
    rank = config.lora_rank
    how = f"of {whole:,}" if rank is None else f"in LoRA weights of rank {rank} beside {whole:,}"
    data, loop, base = config.data, config.loop, config.model.base
    absent = base is not None and not base.is_dir()
    return "\n".join(
        [
            f"learning ControlNeXt {counts['controlnext']:,}, UNet {counts['unet']:,} {how} parameters",
            *([f"{base} is not here: counted with the sizes of SVD-XT 1.1"] if absent else []),
            describe_data(data),
            *_notes(config),
            f"{loop.steps:,} steps of {loop.accumulation} x {config.batch} clips at "
            f"{data.width}x{data.height}, shared by all processes",
            *([f"the UNet is cut over {cut} processes"] if cut > 1 else []),
            memory_line(memory_plan(task, cut), config.gradient_checkpointing),
        ]
    )


def _notes(config: TrainConfig) -> list[str]:
    data, canvas = config.data, config.model.canvas
    if data.shards is not None or data.meta_info is not None or data.canvas == canvas:
        return []  # shards and the published layout hold drawn poses
    return [
        f"note: the clips' poses are drawn at data.canvas={data.canvas}, but the model's users' at "
        f"model.canvas={canvas}: give both one number"
    ]


def memory_plan(task: VideoTask, cut: int = 1) -> MemoryPlan:
    """Counted on a task on the meta device, whose UNet will be cut over `cut` processes."""
    config, networks = task.config, task.parts.networks()
    learning = sum(math.ceil(p.numel() / (cut if in_unet(name) else 1)) for name, p in task.trainable())
    cast = sum(p.numel() for module in task.modules.values() for p in module.parameters())
    kept, checkpointed = activation_bytes(task)
    return MemoryPlan(
        weights={
            LABELS[name]: math.ceil(
                sum(p.nbytes for p in network.parameters()) / (cut if in_unet(name) else 1)
            )
            for name, network in networks.items()
        },
        copies=0 if config.loop.precision == "no" else 2 * cast,
        gradients=4 * learning,
        moments=round((EIGHT_BIT if config.loop.eight_bit else 8) * learning),
        average=4 * learning,
        update=0
        if config.loop.eight_bit
        else 4 * learning,  # torch takes all roots of second moments at once
        kept=kept,
        checkpointed=checkpointed,
        gathered=gathered_bytes(task.parts.unet) if cut > 1 else 0,
    )


def in_unet(name: str) -> bool:
    """Whether a network, or a parameter named `module.parameter`, is of the network that can be cut."""
    return name.partition(".")[0] == "unet"


def gathered_bytes(unet: nn.Module) -> int:
    """Bytes that are whole at one time of a UNet that is cut: what lies in no block, the largest block and
    the next one, and as many of their gradients."""
    blocks = [sum(p.nbytes for p in block.parameters()) for block in blocks_of(unet)]
    outside = sum(p.nbytes for p in unet.parameters()) - sum(blocks)
    return 2 * (outside + 2 * max(blocks))


def memory_line(plan: MemoryPlan, checkpointing: bool) -> str:
    """The plan as one line, in GB (10^9 bytes)."""

    def gigabytes(count: int) -> str:
        return f"{count / 1e9:.2f}"

    weights = ", ".join(f"{name} {gigabytes(count)}" for name, count in plan.weights.items())
    gathered = f"gathered blocks {gigabytes(plan.gathered)}, " if plan.gathered else ""
    copies = f"16-bit copies {gigabytes(plan.copies)}, " if plan.copies else ""
    return (
        f"memory of each process, GB: weights {gigabytes(sum(plan.weights.values()))} ({weights}), {copies}"
        f"gradients {gigabytes(plan.gradients)}, AdamW {gigabytes(plan.moments)}, "
        f"averaged weights {gigabytes(plan.average)}, {gathered}activations about {gigabytes(plan.kept)}, or "
        f"{gigabytes(plan.checkpointed)} with gradient_checkpointing: {gigabytes(plan.total(checkpointing))} "
        f"in all, with it {'on' if checkpointing else 'off'}"
    )
