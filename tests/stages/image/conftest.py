"""Tiny pipelines of each base, made once; narrow modules for them."""

import pytest
import torch

from posedance.stages.image.families import PUBLISHED_SD15, new_module
from posedance.stages.image.tiny import NARROW, tiny_pipeline


@pytest.fixture(scope="session")
def pipelines():
    """One of each base; tests leave them as they found them."""
    made = {base: tiny_pipeline(base) for base in ("sd15", "sdxl", "sd3")}
    for pipeline in made.values():
        pipeline.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def narrow():
    """A narrow module for a network, from one seed; published SD1.5's with `published`."""

    def make(network, published=False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            changes = dict(NARROW)
            if published:
                changes = PUBLISHED_SD15 | {"control_channels": network.config["block_out_channels"][-1]}
            return new_module(network, **changes).eval().requires_grad_(False)

    return make


@pytest.fixture
def paint():
    """Latents of a pipeline for prompts, from the seed 0, in few steps."""

    def run(pipeline, prompt="a dancer", size=32, steps=2, **options):
        generator = torch.Generator().manual_seed(0)
        options = {"guidance_scale": 3.0, "output_type": "latent"} | options
        return pipeline(
            prompt, height=size, width=size, num_inference_steps=steps, generator=generator, **options
        ).images

    return run


@pytest.fixture(scope="session")
def conditions():
    """float [K, 3, 32, 32] in 0..1."""
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
