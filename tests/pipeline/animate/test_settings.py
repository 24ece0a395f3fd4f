"""What a config makes of a model's own settings."""

from dataclasses import replace

import pytest

from posedance.pipeline.animate.decided import model_files
from posedance.pipeline.animate.graph import step_keys
from posedance.pipeline.animate.settings import settings_of
from posedance.pipeline.config import AnimateConfig, ApproximateConfig, WeightsConfig, WindowConfig
from posedance.stages.models import load_generator


@pytest.fixture(scope="module")
def tiny():
    return load_generator("tiny-random")


def test_nothing_is_approximate_by_default(tiny):
    for preset in ("default", "best"):
        settings = settings_of(tiny, AnimateConfig(preset=preset))
        assert not settings.align_your_steps
        assert (settings.guidance_interval, settings.cache_interval) == ((0, 1), 1)
        assert not settings.consistency


def test_preview_aligns_its_steps_where_the_model_starts_as_svd(tiny):
    other = replace(tiny, scheduler={**tiny.scheduler, "sigma_max": 80.0})
    off = ApproximateConfig(align_your_steps=False)
    assert settings_of(tiny, AnimateConfig(preset="preview")).align_your_steps
    assert not settings_of(other, AnimateConfig(preset="preview")).align_your_steps
    assert not settings_of(tiny, AnimateConfig(preset="preview", approximate=off)).align_your_steps


def test_approximations_that_are_named_are_taken(tiny):
    named = ApproximateConfig(align_your_steps=True, guidance_interval=(0.2, 0.8), cache_interval=3)
    settings = settings_of(tiny, AnimateConfig(approximate=named))
    assert settings.align_your_steps
    assert (settings.guidance_interval, settings.cache_interval) == ((0.2, 0.8), 3)


def test_the_published_plan_decodes_as_its_script_does(tiny):
    def chunk(plan):
        return settings_of(tiny, AnimateConfig(window=WindowConfig(plan=plan))).decode_chunk

    assert [chunk(plan) for plan in ("published", "mimicmotion", "even")] == [2, 8, 8]


def test_presets_are_combinations_of_levers(tiny):
    exact = settings_of(tiny, AnimateConfig())
    preview = settings_of(tiny, AnimateConfig(preset="preview"))
    best = settings_of(tiny, AnimateConfig(preset="best"))
    assert preview.steps < exact.steps < best.steps
    assert preview.window_overlap < exact.window_overlap < best.window_overlap
    assert preview.guidance_interval == (0, 0.8) and best.guidance_interval == (0, 1)
    named = ApproximateConfig(guidance_interval=(0.0, 1.0))
    assert settings_of(tiny, AnimateConfig(preset="preview", approximate=named)).guidance_interval == (0, 1)


def test_consistency_brings_its_steps_and_no_guidance(tiny):
    distilled = ApproximateConfig(consistency=True)
    settings = settings_of(tiny, AnimateConfig(approximate=distilled))
    assert (settings.consistency, settings.steps, settings.guidance_scale) == (True, 4, 1.0)
    for preset, steps in (("preview", 2), ("best", 6)):
        settings = settings_of(tiny, AnimateConfig(approximate=distilled, preset=preset))
        assert (settings.steps, settings.align_your_steps) == (steps, False)
    named = AnimateConfig(approximate=distilled, steps=8, guidance_scale=1.2)
    assert (settings_of(tiny, named).steps, settings_of(tiny, named).guidance_scale) == (8, 1.2)


def test_a_base_counts_by_the_files_that_are_used_or_by_its_name_on_the_hub(tmp_path):
    used = ["vae/config.json", "vae/a.safetensors", "image_encoder/model.safetensors", "unet/config.json"]
    for name in [*used, "unet/diffusion_pytorch_model.safetensors", "svd_xt.safetensors", "vae/a.bin"]:
        (tmp_path / "svd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "svd" / name).touch()
    for name in ("picture.png", "dance.npz", "control.bin"):
        (tmp_path / name).touch()

    def config(base: str) -> AnimateConfig:
        weights = WeightsConfig(base=base, controlnext=tmp_path / "control.bin")
        return AnimateConfig(
            reference=tmp_path / "picture.png",
            pose=tmp_path / "dance.npz",
            model="svd-xt-1.1",
            weights=weights,
        )

    asked = config(str(tmp_path / "svd"))
    found = {str(path.relative_to(tmp_path)) for path in model_files(asked.model, asked.weights).values()}
    assert found == {"control.bin", *(f"svd/{name}" for name in used)}
    one, other = step_keys(config("acme/svd")), step_keys(config("other/svd"))
    assert one["poses"] == other["poses"] and one["latents"] != other["latents"]
