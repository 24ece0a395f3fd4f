"""Guidance: its formula, its rise over a window, and where there is none."""

from dataclasses import replace

import torch

from posedance.stages.generate import Settings
from posedance.stages.svd.guidance import Guidance, guidance_of, guide

SETTINGS = Settings(steps=4, guidance_scale=3.0, window_size=8, window_overlap=2)


def test_guide_goes_from_the_unconditional_through_the_conditional_prediction():
    uncond, cond = torch.zeros(1, 3, 4, 2, 2), torch.ones(1, 3, 4, 2, 2)
    guided = guide(uncond, cond, torch.tensor([0.0, 1.0, 2.5]))
    assert guided[0, :, 0, 0, 0].tolist() == [0, 1, 2.5]


def test_the_scale_rises_over_the_slots_of_a_window():
    assert Guidance(1.0, 3.0, 1).scale(0, 3).tolist() == [1, 2, 3]
    assert guidance_of(SETTINGS).scale(0, 2).tolist() == [3, 3]
    assert guidance_of(replace(SETTINGS, min_guidance_scale=2.0)).scale(0, 3).tolist() == [2, 2.5, 3]


def test_where_guidance_changes_nothing_there_is_none():
    assert Guidance(1.0, 1.0, 1).scale(0, 3) is None
    assert Guidance(0.5, 0.9, 1).scale(0, 3) is None
    assert Guidance(0.5, 1.0, 1).scale(0, 3) is not None


def test_the_upper_end_of_the_interval_is_not_guided():
    guidance = guidance_of(replace(SETTINGS, guidance_interval=(0.25, 0.75)))
    assert [step for step in range(4) if guidance.scale(step, 2) is not None] == [1, 2]
