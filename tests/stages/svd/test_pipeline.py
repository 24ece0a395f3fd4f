"""Model folders in diffusers: the custom pipeline makes the frames that our generator makes."""

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from posedance.stages.controlnext.convert import convert
from posedance.stages.errors import ConfigError
from posedance.stages.models import load_generator, save_generator, why_unusable
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.pipeline import PosedancePipeline


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """diffusers copies a custom pipeline's file to its cache before it is run: here, to the test's folder."""
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")


def load(folder):
    return DiffusionPipeline.from_pretrained(str(folder), custom_pipeline=str(folder), trust_remote_code=True)


def job(side, num_frames=4):
    pixels = np.random.default_rng(0).integers(0, 256, (num_frames + 1, side, side, 3), np.uint8)
    return pixels[0], pixels[1:]


def ours(folder, reference, control, seed=0):
    generator = load_generator(str(folder))
    settings = replace(generator.settings(), seed=seed, steps=2)
    latents = generator.denoise(reference, control, settings)
    return latents, np.stack(list(generator.decode(latents, settings)))


@pytest.fixture(params=["tiny", "demo", "converted", "mimicmotion"])
def folder(request, tmp_path):
    if request.param == "demo":
        if reason := why_unusable("demo"):
            pytest.skip(reason)
        return resources.files("posedance.stages") / "demo"
    if request.param == "converted":
        published = request.getfixturevalue("published")
        files = {"controlnext": published / "controlnet.bin", "unet": published / "unet.bin"}
        convert(str(published / "svd"), tmp_path / "model", **files)
        return tmp_path / "model"
    generator = tiny_random()
    if request.param == "mimicmotion":
        from posedance.stages.mimicmotion.pose_net import PoseNet

        generator.controlnext = PoseNet(control_channels=32)
    save_generator(generator, tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_gives_the_same_frames_in_diffusers(folder):
    pipe = load(folder)
    assert type(pipe).__name__ == "PosedancePipeline"
    reference, control = job(2 * load_generator(str(folder)).size_multiple)
    latents, frames = ours(folder, reference, control, seed=5)
    seeded = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(5)}
    (video,) = pipe(reference, control, output_type="np", **seeded).frames
    assert np.array_equal(video, frames)
    assert torch.equal(pipe(reference, control, output_type="latent", **seeded).frames, latents)


def test_it_takes_and_gives_pictures(tmp_path):
    save_generator(tiny_random(), tmp_path / "model")
    pipe = load(tmp_path / "model")
    reference, control = job(32)
    frames = ours(tmp_path / "model", reference, control)[1]
    drawn = [Image.fromarray(frame) for frame in control]
    ((video,),) = pipe(Image.fromarray(reference), drawn, num_inference_steps=2, return_dict=False)
    assert all(np.array_equal(frame, expected) for frame, expected in zip(video, frames, strict=True))
    with pytest.raises(ConfigError, match="use pil, np or latent"):
        pipe(reference, control, output_type="pt")
    with pytest.raises(ConfigError, match="multiples of 16"):
        pipe(reference, control[:, 1:])


def test_pictures_of_any_mode_are_taken_and_other_arrays_refused(tmp_path):
    save_generator(tiny_random(), tmp_path / "model")
    pipe = load(tmp_path / "model")
    reference, control = job(32)
    options = {"num_inference_steps": 1, "output_type": "latent"}
    plain = pipe(reference, control, **options).frames
    opaque = Image.fromarray(reference).convert("RGBA")
    drawn = [Image.fromarray(frame).convert("RGBA") for frame in control]
    assert torch.equal(pipe(opaque, drawn, **options).frames, plain)
    grey = Image.fromarray(reference).convert("L")
    assert torch.equal(
        pipe(grey, control, **options).frames, pipe(grey.convert("RGB"), control, **options).frames
    )
    for image, frames, expected in (
        (reference / 255, control, r"image is float64 \[32, 32, 3\]: give uint8"),
        (reference, control[..., 0], r"control frame 0 is uint8 \[32, 32\]"),
        (reference, [control[0], control[1, 1:]], "all of one size"),
        (reference, [], "0 control frames"),
    ):
        with pytest.raises(ConfigError, match=expected):
            pipe(image, frames, **options)


def test_what_it_saves_it_loads(tmp_path):
    save_generator(tiny_random(), tmp_path / "model")
    load(tmp_path / "model").to(torch.bfloat16).save_pretrained(tmp_path / "again")
    pipe = PosedancePipeline.from_pretrained(tmp_path / "again", torch_dtype=torch.float32)
    reference, control = job(32)
    (video,) = pipe(reference, control, output_type="np").frames
    assert video.shape == (3, 32, 32, 3)


def test_no_path_of_the_machine_is_saved(tmp_path):
    save_generator(tiny_random(), tmp_path / "a")
    again = load_generator(str(tmp_path / "a"))
    again.unet = type(again.unet).from_pretrained(tmp_path / "a", subfolder="unet")
    save_generator(again, tmp_path / "b")
    assert not [path for path in (tmp_path / "b").rglob("*.json") if str(tmp_path) in path.read_text()]


def test_it_works_where_its_components_are(tmp_path):
    save_generator(tiny_random(), tmp_path / "model")
    pipe = load(tmp_path / "model")
    assert pipe.svd_generator().device.type == "cpu"
    assert pipe.to("meta").svd_generator().device.type == "meta"


def test_it_stays_on_its_device_after_a_plan_that_offloads(tmp_path):
    """meta stands for a GPU, from which such a plan has moved the UNet to the CPU."""
    save_generator(tiny_random(), tmp_path / "model")
    pipe = load(tmp_path / "model").to("meta")
    pipe.unet.to_empty(device="cpu")
    assert pipe.svd_generator().device.type == "meta"
