"""Validation of a training samples as the product does."""

import torch

from posedance.pipeline.train.data import held_out_clips, seeded
from posedance.pipeline.train.model import as_generator
from posedance.pipeline.train.task import VideoTask
from posedance.pipeline.train.validation import pictures_of, sampled
from posedance.stages.generate import Checkpoint
from posedance.stages.svd.schedule import initial_deviation


def test_validation_samples_what_the_generator_does(base, config, tmp_path):
    settings = config(base, tmp_path)
    model = settings.model.model_copy(update={"noise_aug": 0.0, "guidance_scale": 2.0, "steps": 3})
    task = VideoTask(settings.model_copy(update={"model": model}))
    for parameter in task.parts.unet.conv_out.parameters():  # new networks would give the reference back
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    (clip,) = held_out_clips(settings.data, 1)
    made = sampled(task, clip)
    task.injection.detach()
    generator = as_generator("as-trained", task.parts, model)
    asked = generator.settings()
    noise = torch.randn(3, 4, 8, 8, generator=seeded(3, clip.number))
    start = noise * initial_deviation(generator.scheduler, generator.sigmas(asked))
    latents = generator.denoise(clip.frames[0], clip.control, asked, resume=Checkpoint(0, start))
    assert float(made.std()) > 0.05
    assert torch.allclose(made, pictures_of(task, latents), atol=1e-4)
