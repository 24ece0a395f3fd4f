"""ControlNeXt for pictures against recordings of the published code: modules, injections, the whole loop."""

from pathlib import Path
from zlib import crc32

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from numpy.random import RandomState

from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.image.attach import attach
from posedance.stages.image.families import PUBLISHED_SD15, STEMMED, inject

MODULES = {"sdxl": STEMMED, "sd15": PUBLISHED_SD15, "sd15_v2": STEMMED}
"""Settings of the published modules by the recordings' names."""


def close(ours, recorded, what=""):
    """By the tolerance of the recordings."""
    bound = 1e-4 + 3e-5 * float(np.abs(recorded).max())
    np.testing.assert_allclose(np.asarray(ours), recorded, rtol=0, atol=bound, err_msg=what)


def cases(folder: Path, read_json):
    """Each case's arrays, with the recipe of its own file or the folder's."""
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}")
    paths = sorted(folder.glob("case_*.npz"))
    assert paths
    for path in paths:
        own = folder / f"{path.stem}_meta.json"
        meta = read_json(own if own.is_file() else folder / "meta.json")
        yield path.stem, {key: torch.from_numpy(value) for key, value in np.load(path).items()}, meta


@pytest.mark.parametrize("family", MODULES)
def test_golden_module(golden, fill, read_json, family):
    module = ControlNeXt(**MODULES[family])
    for name, case, meta in cases(golden / f"controlnext_{family}", read_json):
        fill(module, meta["seed"], meta.get("component", f"controlnext_{family}"), meta["weights"])
        output = module(case["sample"][:, None], case["timestep"])
        close(output, case["output"].numpy(), name)
        # the strides that diffusers' own preprocessing hands over
        strided = case["sample"].contiguous(memory_format=torch.channels_last)[:, None]
        close(module(strided, case["timestep"]), case["output"].numpy(), name)
        if family == "sd15":
            assert float(module.scale) == pytest.approx(float(case["scale"]), abs=1e-6)


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_golden_state_dict_is_the_published_one(golden, read_json, family):
    path = golden / f"controlnext_{family}/state_dict_keys.json"
    if not path.is_file():
        pytest.skip(f"no golden data at {path}")
    listing = read_json(path)
    published = listing.get("state_dict", listing)
    ours = {key: list(value.shape) for key, value in ControlNeXt(**MODULES[family]).state_dict().items()}
    assert ours == {key: value["shape"] for key, value in published.items()}


def unet_call(case):
    """The arguments of the UNet."""
    added = {key: case[key] for key in ("text_embeds", "time_ids") if key in case}
    named = {"added_cond_kwargs": added} if added else {}
    return (case["sample"], case["timestep"], case["encoder_hidden_states"]), named


@pytest.mark.parametrize("family", MODULES)
def test_golden_injection(golden, fill, read_json, family):
    unet = None
    for name, case, meta in cases(golden / f"{family}_injection", read_json):
        unet = unet or UNet2DConditionModel(**meta["config"])
        fill(unet, meta["seed"], meta.get("component", "unet"), meta["weights"])
        args, kwargs = unet_call(case)
        control = case["control_output"]
        module = ControlNeXt(**MODULES[family] | {"control_channels": control.shape[1]}).requires_grad_(False)
        with inject(unet, module) as injection, injection.control(control, case["control_scale"]):
            close(unet(*args, **kwargs).sample, case["output"].numpy(), name)
        if "output_without_control" in case:
            close(unet(*args, **kwargs).sample, case["output_without_control"].numpy(), name)


LOOPS = {
    ("sdxl_sampling", "variant_a"): "sdxl",
    ("sdxl_sampling", "variant_b_prompt"): "sdxl",
    ("sd15_sampling", "variant_a_prompt"): "sd15",
    ("sd15_v2_sampling", "variant_a_prompt"): "sd15_v2",
}
"""Recorded loops, and the family of each."""
EMBEDDINGS = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
)


def parts_of(meta, family, fill):
    """Pipeline and module of a recorded loop, with the scheduler that the script makes of the base's file."""

    def component(module, name):
        return fill(module, meta["seed"], name, meta["weights"][name])

    file = dict(meta.get("scheduler_file", meta["scheduler"]))
    base = getattr(diffusers, file.pop("_class")).from_config(file)
    scheduler = UniPCMultistepScheduler.from_config(base.config)
    unet = component(UNet2DConditionModel(**meta["unet"]), "unet")
    vae = component(AutoencoderKL(**meta["vae"]), "vae")
    outputs = meta["unet"]["block_out_channels"][-1 if family == "sd15" else 0]
    name = f"controlnext_{family}"
    if family == "sd15":  # the sums are those with this scale in place of the recipe's
        drawn = RandomState(crc32(f"{meta['seed']}/{name}/scale".encode())).standard_normal() / 10
        sums = meta["weights"][name]
        for key, power in (("sum", 1), ("abs_sum", 1), ("sq_sum", 2)):
            sums[key] += abs(drawn) ** power if key != "sum" else drawn
            sums[key] -= meta["scale"] ** power
    module = component(ControlNeXt(**MODULES[family] | {"control_channels": outputs}), name)
    if family == "sd15":
        module.scale.fill_(meta["scale"])
    if family == "sdxl":
        parts = (vae, None, None, None, None, unet, scheduler)
        pipeline = StableDiffusionXLPipeline(*parts, add_watermarker=False)
    else:
        parts = (vae, None, None, unet, scheduler, None, None)
        pipeline = StableDiffusionPipeline(*parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, module


@pytest.mark.parametrize(("folder", "variant"), LOOPS)
def test_golden_loop(golden, fill, read_json, folder, variant):
    family, folder = LOOPS[folder, variant], golden / folder
    if not (folder / f"{variant}.npz").is_file():
        pytest.skip(f"no golden data at {folder / variant}")
    own = folder / f"{variant}_meta.json"
    meta, given = (
        read_json(own if own.is_file() else folder / "meta.json"),
        np.load(folder / f"{variant}.npz"),
    )
    pipeline, module = parts_of(meta, family, fill)
    after = []

    def record(pipe, step, timestep, kept):
        after.append(kept["latents"].clone())
        return kept

    if "control_tensor" in given:
        condition = torch.from_numpy(given["control_tensor"])
    else:
        condition = torch.from_numpy(given["control_image"]).permute(2, 0, 1)[None] / 255
    scale = meta["scale"] if family == "sd15_v2" else 1.0
    with attach(pipeline, module, condition, scale=scale):
        latents = pipeline(
            **{name: torch.from_numpy(given[name]) for name in EMBEDDINGS if name in given},
            latents=torch.from_numpy(given["initial_latents"]),
            height=meta["height"],
            width=meta["width"],
            num_inference_steps=meta["num_inference_steps"],
            guidance_scale=meta["guidance_scale"],
            callback_on_step_end=record,
            output_type="latent",
        ).images
    if "timesteps" in given:
        np.testing.assert_array_equal(pipeline.scheduler.timesteps, given["timesteps"])
    close(torch.stack(after), given["latents_after_step"])
    close(latents, given["final_latents"])
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    recorded = given if "decoded" in given else np.load(folder / f"{variant}_decoded.npz")
    close(decoded, recorded["decoded"])
