"""The whole sampler against recordings of the published one, at every recorded point."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.pixels import to_uint8
from posedance.stages.svd.conditioning import MicroConditioning, clip_pixels, condition, vae_input
from posedance.stages.svd.decode import decode
from posedance.stages.svd.denoiser import Denoiser
from posedance.stages.svd.denoising import denoise
from posedance.stages.svd.guidance import Guidance
from posedance.stages.svd.levers.collapse import collapse
from posedance.stages.svd.published import step_windows
from posedance.stages.svd.sampling import ControlCache, Sampler
from posedance.stages.svd.schedule import euler_step, initial_deviation, sampling_sigmas
from posedance.stages.windows import published

LARGE = {"rtol": 1e-5, "atol": 1e-4}
"""For latents on their way, which reach several thousand."""
SMALL = {"rtol": 0, "atol": 1e-4}


TIME_IDS_NOISE = MicroConditioning().noise_aug
"""Strength of the image noise that the recorded time ids name, whatever the noise's was."""


def noise_strength(meta) -> float:
    """Strength of the noise that was added to the reference image of a variant."""
    return meta.get("noise_aug_strength", TIME_IDS_NOISE)


def build(meta, fill):
    def component(module, name):
        return fill(module, meta["seed"], name, meta["weights"][name])

    unet = component(UNetSpatioTemporalConditionModel(**meta["unet"]), "unet")
    controlnext = component(ControlNeXt(), "controlnext")
    vae = component(AutoencoderKLTemporalDecoder(**meta["vae"]), "vae")
    encoder = component(
        CLIPVisionModelWithProjection(CLIPVisionConfig(**meta["image_encoder"])), "image_encoder"
    )
    return unet, controlnext, vae, encoder


def run(folder, name, fill, read_json):
    """One variant, run once."""
    meta = read_json(folder / f"{name}_meta.json")
    given = np.load(folder / f"{name}_inputs.npz")
    unet, controlnext, vae, encoder = build(meta, fill)
    height, width, num_frames = meta["height"], meta["width"], meta["num_frames"]
    frames = given["pose_images"]
    if frames.shape[1:3] != (height, width):
        resized = [Image.fromarray(f).resize((width, height), Image.Resampling.LANCZOS) for f in frames]
        frames = np.stack([np.asarray(f) for f in resized])

    sigmas = sampling_sigmas(meta["scheduler"], meta["num_inference_steps"])
    with torch.no_grad():
        conditioning = condition(
            given["reference_image"],
            torch.from_numpy(given["image_noise"]) * (noise_strength(meta) / TIME_IDS_NOISE),
            encoder,
            vae,
            MicroConditioning(),
        )
    start = torch.from_numpy(given["initial_latents"])[0] * initial_deviation(meta["scheduler"], sigmas)
    windows = published(num_frames, meta["frames_per_batch"], meta["overlap"])
    guidance = Guidance(meta["min_guidance_scale"], meta["max_guidance_scale"], len(sigmas) - 1)
    injection = controlnext.attach(unet)
    denoiser = Denoiser(unet, controlnext, injection)
    sampler = Sampler(denoiser, conditioning, ControlCache(controlnext, frames), windows, sigmas, guidance)

    predictions, after_step = {}, []

    def predict(step, index, latents):
        v = sampler.predict(step, index, latents)
        predictions.setdefault(step, []).append(v)
        return v

    collapsed = collapse(unet)
    final = denoise(
        start.clone(),  # it changes in place
        sigmas,
        windows,
        predict,
        on_step=lambda step, latents: after_step.append(latents.clone()),
    )
    collapsed.detach()
    chunk = meta["decode_chunk_size"]
    decoded = torch.stack(list(decode(vae, final, chunk, overlap=0)))
    injection.detach()
    return SimpleNamespace(
        **{key: value for key, value in locals().items() if key not in ("fill", "read_json")}
    )


@pytest.fixture(scope="module")
def variants(golden, fill, read_json):
    folder = golden / "sampling_loop"
    names = sorted(path.name.removesuffix("_meta.json") for path in folder.glob("variant_*_meta.json"))
    assert names
    return [(run(folder, name, fill, read_json), np.load(folder / f"{name}_outputs.npz")) for name in names]


def test_golden_schedule(variants):
    for ran, recorded in variants:
        np.testing.assert_allclose(ran.sigmas, recorded["sigmas"], rtol=1e-6)
        np.testing.assert_allclose(0.25 * ran.sigmas[:-1].log(), recorded["timesteps"], rtol=1e-6)
        np.testing.assert_allclose(ran.start[None], recorded["scaled_initial_latents"], **LARGE)
        assert [w.frames[0] for w in ran.windows] == list(recorded["window_starts"])


def test_golden_conditioning(variants):
    for ran, recorded in variants:
        image, meta = ran.given["reference_image"], ran.meta
        np.testing.assert_allclose(clip_pixels(image)[:, :, ::8, ::8], recorded["clip_pixel_values"], **SMALL)
        noise = torch.from_numpy(ran.given["image_noise"])
        pixels = vae_input(image, meta["width"], meta["height"], noise, noise_strength(meta))
        np.testing.assert_allclose(pixels, recorded["vae_input"], **SMALL)
        np.testing.assert_allclose(ran.conditioning.token, recorded["image_embeddings"][-1:], **SMALL)
        np.testing.assert_allclose(ran.conditioning.image_latents, recorded["image_latents"][-1:], **SMALL)
        np.testing.assert_allclose(ran.conditioning.time_ids, recorded["added_time_ids"][-1:], **SMALL)


def test_golden_control_of_the_second_window(variants):
    for ran, recorded in variants:
        if len(ran.windows) < 2:
            continue
        control = ran.sampler.control(0, ran.sigmas[0], ran.windows[1].control)
        np.testing.assert_allclose(
            control[:, ::40], recorded["control_output_step0_window1"][-len(control) :], **SMALL
        )
        first = torch.from_numpy(ran.frames[ran.windows[1].control[0]]).permute(2, 0, 1) / 255
        np.testing.assert_allclose(first, recorded["control_input_window1_frame0"], **SMALL)


def test_golden_unet_call_of_the_second_window(variants):
    for ran, recorded in variants:
        if len(ran.windows) < 2:
            continue
        latents = ran.start[list(ran.windows[1].frames)]
        calls = []

        def record(module, args, output, calls=calls):
            calls.append((args[0], output[0]))

        hook = ran.unet.register_forward_hook(record)
        with torch.no_grad(), ran.controlnext.attach(ran.unet) as injection:
            denoiser = Denoiser(ran.unet, ran.controlnext, injection)
            replace(ran.sampler, denoiser=denoiser).predict(0, 1, latents)
        hook.remove()
        given, made = (torch.cat(halves[::-1]) for halves in zip(*calls, strict=True))
        np.testing.assert_allclose(given, recorded["unet_input_step0_window1"], **SMALL)
        np.testing.assert_allclose(made, recorded["unet_output_step0_window1"], **SMALL)


def test_golden_predictions_and_window_steps(variants):
    for ran, recorded in variants:
        before = ran.start
        for step, latents in enumerate(ran.after_step):
            sigma, next_sigma = ran.sigmas[step], ran.sigmas[step + 1]
            for index, window in enumerate(ran.windows):
                v = ran.predictions[step][index]
                np.testing.assert_allclose(v, recorded["guided_prediction"][step, index], **SMALL)
                stepped = euler_step(before[list(window.frames)], v, sigma, next_sigma)
                np.testing.assert_allclose(stepped, recorded["window_latents"][step, index], **LARGE)
            before = latents


def test_golden_latents(variants):
    for ran, recorded in variants:
        np.testing.assert_allclose(torch.stack(ran.after_step), recorded["latents_after_step"], **LARGE)
        np.testing.assert_allclose(ran.final[None], recorded["final_latents"], **SMALL)


def test_golden_published_order_of_work(variants):
    for ran, recorded in variants:
        with ran.controlnext.attach(ran.unet) as injection:
            ran.sampler.denoiser = Denoiser(ran.unet, ran.controlnext, injection)
            first = torch.stack(list(step_windows(ran.sampler, 0, ran.start)))
        np.testing.assert_allclose(first.detach(), recorded["window_latents"][0], **LARGE)


def test_golden_decoded_frames(variants, golden):
    for ran, recorded in variants:
        np.testing.assert_allclose(ran.decoded, recorded["decoded"], **SMALL)
        strip = np.asarray(Image.open(golden / f"sampling_loop/{ran.name}_decoded_strip.png").convert("RGB"))
        ours = np.concatenate([to_uint8(frame) for frame in ran.decoded], axis=1)
        assert np.abs(strip.astype(int) - ours.astype(int)).max() <= 1
