"""What a config makes of a model's own settings."""

from dataclasses import replace

import pytest

from posedance.pipeline.config import AnimateConfig, ApproximateConfig
from posedance.pipeline.graph import settings_of
from posedance.stages.generate import load_generator


@pytest.fixture(scope="module")
def tiny():
    return load_generator("tiny-random")


def test_nothing_is_approximate_by_default(tiny):
    for preset in ("default", "best"):
        settings = settings_of(tiny, AnimateConfig(preset=preset))
        assert not settings.align_your_steps
        assert (settings.guidance_interval, settings.cache_interval) == ((0, 1), 1)


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
