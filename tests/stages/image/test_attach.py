"""Control in diffusers' unmodified pipelines: on and off again, its strength, its steps, whose it is."""

import pytest
import torch

from posedance.stages.errors import ConfigError
from posedance.stages.image.attach import attach, repeated
from posedance.stages.image.families import family_of, inject, new_module

BASES = ("sd15", "sdxl", "sd3")


def network_of(pipeline):
    return getattr(pipeline, "unet", None) or pipeline.transformer


def hooks(network):
    """How many hooks all modules of a network have."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize("base", BASES)
def test_control_changes_the_picture_and_detach_gives_the_network_back(
    pipelines, narrow, paint, conditions, base
):
    pipeline = pipelines[base]
    network = network_of(pipeline)
    before, plain = hooks(network), paint(pipeline)
    with attach(pipeline, narrow(network), conditions[:1]) as control:
        controlled = paint(pipeline)
        assert (controlled - plain).abs().max() > 0.05
        control.scale = 0.0
        assert torch.allclose(paint(pipeline), plain, atol=1e-5)
        control.scale, control.condition = 1.0, conditions[1:]
        assert (paint(pipeline) - controlled).abs().max() > 0.01, "another condition, another picture"
    assert hooks(network) == before
    assert torch.equal(paint(pipeline), plain)


def test_published_sd15_joins_the_middle_by_its_learned_scale(pipelines, narrow, conditions):
    unet = pipelines["sd15"].unet
    module = narrow(unet, published=True)
    call = torch.ones(1, 4, 4, 4), 500, torch.ones(1, 7, 32)
    plain = unet(*call).sample
    with attach(unet, module, conditions[:1]):
        changed = unet(*call).sample - plain
        module.scale.fill_(0.5)
        halved = unet(*call).sample - plain
        module.scale.fill_(0.0)
        assert torch.equal(unet(*call).sample, plain)
    assert family_of(unet, module) == "sd15"
    assert changed.abs().max() > 1e-3
    assert 0.2 < halved.abs().max() / changed.abs().max() < 0.9


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.5, 1.0)])
@pytest.mark.parametrize("base", BASES)
def test_control_joins_only_the_steps_that_are_asked_for(
    pipelines, narrow, paint, conditions, base, start, end
):
    pipeline = pipelines[base]
    network = network_of(pipeline)
    with attach(pipeline, narrow(network), conditions[:1], start=start, end=end) as control:
        seen = []
        counted = control._features

        def record(sample, timestep):
            seen.append(float(timestep[0]))
            return counted(sample, timestep)

        control._features = record
        paint(pipeline, steps=4)
    used = [float(t) for t in pipeline.scheduler.timesteps[-pipeline.num_timesteps :]]
    half = len(used) / 2
    expected = [t for i, t in enumerate(used) if i / len(used) >= start and (i + 1) / len(used) <= end]
    assert sorted(set(seen)) == sorted(set(expected))
    assert 0 < len(seen) <= half + 1


def test_both_halves_are_controlled_and_in_guess_mode_the_conditional_one(
    pipelines, narrow, paint, conditions
):
    pipeline = pipelines["sdxl"]
    module = narrow(pipeline.unet)
    seen = []

    def record(network, args, kwargs, output):
        seen.append(output[0].detach().clone())

    probe = pipeline.unet.register_forward_hook(record, with_kwargs=True)
    for options in (None, {}, {"guess_mode": True}):
        if options is None:
            paint(pipeline, steps=1)
        else:
            with attach(pipeline, module, conditions[:1], **options):
                paint(pipeline, steps=1)
    probe.remove()
    plain, both, guess = seen
    assert len(plain) == len(both) == len(guess) == 2
    assert (both - plain).abs().amax((1, 2, 3)).min() > 1e-3
    assert torch.allclose(guess[0], plain[0], atol=1e-5)
    assert torch.allclose(guess[1], both[1], atol=1e-5)


def test_every_prompt_gets_its_own_condition(pipelines, narrow, paint, conditions):
    """Two prompts with two pictures each, guided: the same as each prompt alone."""
    pipeline = pipelines["sdxl"]
    module = narrow(pipeline.unet)
    noise = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    with attach(pipeline, module, conditions):
        together = paint(pipeline, ["a dancer", "a chair"], num_images_per_prompt=2, latents=noise)
    for i, prompt in enumerate(("a dancer", "a chair")):
        with attach(pipeline, module, conditions[i : i + 1]):
            alone = paint(pipeline, prompt, num_images_per_prompt=2, latents=noise[2 * i : 2 * i + 2])
        assert torch.allclose(together[2 * i : 2 * i + 2], alone, atol=1e-3)


def test_features_are_shared_out_among_the_batch():
    features = torch.tensor([[1.0], [2.0]])
    assert repeated(features, 8, 2).flatten().tolist() == [1, 1, 2, 2, 1, 1, 2, 2]
    assert repeated(features, 2, 1).flatten().tolist() == [1, 2]
    assert repeated(features[:1], 3, 2).flatten().tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="2 conditions for a batch of 3"):
        repeated(features, 3, 1)


def test_one_timestep_for_each_sample(pipelines, narrow, conditions):
    unet = pipelines["sd15"].unet
    module = narrow(unet)
    text = torch.ones(2, 7, 32)
    noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(4))
    with attach(unet, module, conditions):
        together = unet(noise, torch.tensor([10, 900]), text).sample
    for i, timestep in enumerate((10, 900)):
        with attach(unet, module, conditions[i : i + 1]):
            alone = unet(noise[i : i + 1], timestep, text[:1]).sample
        assert torch.allclose(together[i : i + 1], alone, atol=1e-4)


def test_a_module_of_another_base_is_refused(pipelines, narrow, conditions):
    sdxl = narrow(pipelines["sdxl"].unet)
    published = narrow(pipelines["sd15"].unet, published=True)
    with pytest.raises(ConfigError, match=r"is not of this sd3 network \(32 channels, patches of 2\)"):
        attach(pipelines["sd3"], sdxl, conditions)
    with pytest.raises(ConfigError, match=r"is not of this sdxl network"):
        attach(pipelines["sdxl"], published, conditions)
    with pytest.raises(ConfigError, match="not a AutoencoderKL"):
        inject(pipelines["sdxl"].vae, sdxl)
    with pytest.raises(ConfigError, match="not a AutoencoderKL"):
        new_module(pipelines["sdxl"].vae)


def test_what_cannot_be_is_refused_in_one_line(pipelines, narrow, conditions):
    pipeline = pipelines["sdxl"]
    module = narrow(pipeline.unet)
    before = hooks(pipeline.unet)
    for options, line in (
        ({"start": 0.6, "end": 0.5}, "from 0.6 to 0.5"),
        ({"end": 1.5}, "to 1.5"),
    ):
        with pytest.raises(ConfigError, match=line):
            attach(pipeline, module, conditions, **options)
    with pytest.raises(ConfigError, match="attach to the pipeline"):
        attach(pipeline.unet, module, conditions, guess_mode=True)
    with pytest.raises(ConfigError, match=r"\[2, 32, 32\]"):
        attach(pipeline, module, conditions[:, 0])
    with pytest.raises(ConfigError, match="cannot join block 3: choose one from -1 to 2"):
        attach(pipelines["sd3"], narrow(pipelines["sd3"].transformer), conditions, block=3)
    assert hooks(pipeline.unet) == before


def test_a_call_that_fails_leaves_no_control_behind(pipelines, narrow, conditions):
    unet = pipelines["sd15"].unet
    with attach(unet, narrow(unet), conditions[:1]) as control:
        with pytest.raises(RuntimeError):
            unet(torch.zeros(1, 5, 4, 4), 1, torch.zeros(1, 7, 32))
        assert control.injection.features is None
