"""ControlNeXt for pictures beside a ControlNet: counted at the published sizes, timed, and learning.

ControlNet is diffusers' own, a copy of the UNet's first half.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from ....stages.image.attach import attach
from ....stages.image.families import Family, new_module
from ....stages.image.sizes import SDXL, meta_network
from ...train.image.task import learning_names
from ..figures import write_figures
from .picture_config import PictureClaimsConfig
from .picture_learning import compare_learning
from .size import parameters, tflop

LATENTS = {"sd15": 64, "sdxl": 128}
"""Side of the latents that each base was trained for; counted for a guided step, two of them."""
FAMILIES: dict[str, Family] = {"sd15": "sd15-v2", "sdxl": "sdxl"}
SMALL = {
    "sd15": {"block_out_channels": (80, 160, 320, 320), "attention_head_dim": 2, "cross_attention_dim": 192},
    "sdxl": SDXL
    | {
        "block_out_channels": (80, 160, 320),
        "attention_head_dim": (1, 2, 4),
        "cross_attention_dim": 512,
        "projection_class_embeddings_input_dim": 704,
        "addition_time_embed_dim": 64,
    },
}
"""A quarter of the published widths, for timing on a CPU."""
QUARTER = {"time_embed_dim": 64, "in_channels": (32, 32), "out_channels": (32, 64), "stem_channels": 16}
"""The same of the module."""


def evaluate_pictures(config: PictureClaimsConfig) -> str:
    """Count, time and train; returns lines for the user. `config.json_file` gets the same numbers."""
    figures: dict[str, Any] = {
        base: {**counted(base), **timed(base, config.rounds, config.latents)} for base in LATENTS
    }
    lines = [line(base, figures[base]) for base in LATENTS]
    figures["learning"] = compare_learning(config)
    figures["threads"] = torch.get_num_threads()
    figures["config"] = config.model_dump(mode="json", exclude={"output", "json_file"})
    write_figures(config.json_file, figures)
    return "\n".join([*lines, table(figures["learning"])])


def table(learning: dict[str, Any]) -> str:
    """Markdown: held-out loss and pose error by step, a column for each way of control."""
    ways, without = learning["ways"], learning["without_control"]
    rows = [f"| | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    rows.append(f"| parameters | {' | '.join(format(w['control_parameters'], ',') for w in ways.values())} |")
    for step in next(iter(ways.values()))["at_step"]:
        at = [way["at_step"][step] for way in ways.values()]
        cells = [f"{each['loss']:.3f}, {each['pose_error_percent']:.2f} %" for each in at]
        rows.append(f"| loss, pose error, step {step} | {' | '.join(cells)} |")
    base = f"{without['loss']:.3f}, {without['pose_error_percent']:.2f} %"
    return "\n".join([*rows, f"without control: {base}"])


def line(base: str, figures: dict[str, Any]) -> str:
    """The figures of one base in a sentence."""
    whole = figures["base_tflop"]
    shares = [figures[f"{name}_tflop"] / whole for name in ("controlnext", "controlnet")]
    longer = [figures[f"{name}_overhead"] for name in ("controlnext", "controlnet")]
    sizes = [figures[f"{name}_parameters"] / 1e6 for name in ("controlnext", "learned", "controlnet")]
    return (
        f"{base}: ControlNeXt {sizes[0]:.1f} M parameters, {sizes[1]:.1f} M learning in all, and ControlNet "
        f"{sizes[2]:.1f} M; a step's TFLOP grow by {shares[0]:.1%} and {shares[1]:.1%}; at a quarter of the "
        f"widths a step takes longer by {longer[0]:.1%} and {longer[1]:.1%}"
    )


def counted(base: str) -> dict[str, Any]:
    """Parameters, and TFLOP (2 x MAC) of a guided step at the published size.

    The module is counted whole, as in the first step; later ones keep what does not depend on the timestep.
    """
    with torch.device("meta"):
        unet = cast(UNet2DConditionModel, meta_network(base))
        module, controlnet = new_module(unet), ControlNetModel.from_unet(unet)
        sample, timestep, words = call_of(unet, LATENTS[base])
        condition = torch.empty(1, 3, 8 * LATENTS[base], 8 * LATENTS[base])
    names = learning_names(unet, None, FAMILIES[base])
    learned = sum(unet.get_parameter(name).numel() for name in names)
    return {
        "base_parameters": parameters(unet.parameters()),
        "controlnext_parameters": parameters(module.parameters()),
        "learned_parameters": parameters(module.parameters()) + learned,
        "controlnet_parameters": parameters(controlnet.parameters()),
        "base_tflop": tflop(lambda: unet(sample, timestep, **words)),
        "controlnext_tflop": tflop(lambda: module(condition[:, None], timestep[:1])),
        "controlnet_tflop": tflop(
            lambda: controlnet(sample, timestep, controlnet_cond=condition.expand(2, -1, -1, -1), **words)
        ),
    }


@torch.no_grad()
def timed(base: str, rounds: int, latents: int) -> dict[str, float]:
    """How much longer a guided step takes with either control: medians over neighbouring calls."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(norm_num_groups=16, **SMALL[base]).eval()  # pyright: ignore[reportArgumentType]
    module, controlnet = new_module(unet, **QUARTER).eval(), ControlNetModel.from_unet(unet).eval()
    sample, timestep, words = call_of(unet, latents)
    condition = torch.rand(1, 3, 8 * latents, 8 * latents)

    def plain() -> None:
        unet(sample, timestep, **words)

    def with_controlnet() -> None:
        down, middle = controlnet(
            sample,
            timestep,
            controlnet_cond=condition.expand(2, -1, -1, -1),
            return_dict=False,
            **words,
        )
        unet(
            sample,
            timestep,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            **words,
        )

    ratios: dict[str, list[float]] = {"controlnext": [], "controlnet": []}
    plain()
    for _ in range(rounds):
        with attach(unet, module, condition):
            plain()  # encodes the condition, as the first step does
            controlled = seconds(plain)
        before = seconds(plain)
        ratios["controlnext"].append(controlled / before)
        ratios["controlnet"].append(seconds(with_controlnet) / before)
    return {f"{name}_overhead": statistics.median(values) - 1 for name, values in ratios.items()}


def call_of(unet: UNet2DConditionModel, side: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Inputs of a guided step: samples, timesteps, and what the prompt gives."""
    config: Any = unet.config
    words: dict[str, Any] = {"encoder_hidden_states": torch.ones(2, 77, config["cross_attention_dim"])}
    if config["addition_embed_type"] == "text_time":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        words["added_cond_kwargs"] = {"text_embeds": torch.ones(2, pooled), "time_ids": torch.ones(2, 6)}
    return torch.ones(2, 4, side, side), torch.full((2,), 500), words


def seconds(run: Callable[[], None]) -> float:
    """Processor time that a call takes, which other programs on the machine disturb little."""
    began = time.process_time()
    run()
    return time.process_time() - began
