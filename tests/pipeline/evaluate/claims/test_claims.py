"""The comparison of control methods, small: what learns, what is counted, resumed and written."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from posedance.pipeline.evaluate.claims import claims
from posedance.pipeline.evaluate.claims.claims import (
    ClaimsConfig,
    count,
    evaluate_claims,
    new_parts,
    read_figures,
    run,
)
from posedance.pipeline.evaluate.claims.pictures import counted, line, timed
from posedance.pipeline.evaluate.claims.size import published_size
from posedance.pipeline.evaluate.claims.task import (
    APART,
    BASE,
    CONTROLNET,
    CONTROLNEXT,
    METHODS,
    WITHOUT,
    ZERO,
    ClaimsTask,
    pose_errors,
)
from posedance.pipeline.evaluate.model import held_out
from posedance.pipeline.train.latents import LatentCache
from posedance.stages.errors import ConfigError
from posedance.stages.svd.levers.temporal import is_temporal


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> ClaimsConfig:
    return ClaimsConfig(
        output=tmp_path_factory.mktemp("claims"),
        steps=20,
        base_steps=2,
        batch=1,
        clips=3,
        held_out=2,
        moments=2,
        width=32,
        height=48,
        unet=claims.UnetConfig(widths=(32, 32), attention=(False, True)),
    )


@pytest.fixture(scope="module")
def held(small):
    size = small.width, small.height
    return [held_out(0, number, APART * small.moments, size, 6 * small.width) for number in range(2)]


@pytest.fixture(scope="module")
def base(small, held):
    return run(small, BASE, None, held, LatentCache()).parts.unet.state_dict()


def task(config, method, base, held=()) -> ClaimsTask:
    return ClaimsTask(method, config.training(method), new_parts(config, base), list(held), frozenset())


def test_only_what_is_meant_to_learns(small, base):
    selected = small.model_copy(update={"learn": "to_out+to_v"})
    sizes = {method: count(task(selected, method, base)) for method in METHODS}
    assert len({size["unet"] for size in sizes.values()}) == 1
    assert 0 < sizes[CONTROLNEXT]["unet"] < count(task(small, CONTROLNEXT, base))["unet"]
    assert sizes[CONTROLNEXT] == sizes[WITHOUT]
    assert sizes[CONTROLNEXT]["control"] < sizes[CONTROLNET]["control"]
    for method in METHODS:
        assert not any(is_temporal(name) for name, _ in task(small, method, base).trainable())


def test_a_new_controlnet_dances_as_its_base(small, base, held):
    without, controlnet, zero, controlnext = (
        task(small, method, base, held).figures() for method in (BASE, CONTROLNET, ZERO, CONTROLNEXT)
    )
    assert controlnet == pytest.approx(without, nan_ok=True)
    assert zero == pytest.approx(without, nan_ok=True)
    assert controlnext["psnr"] != pytest.approx(without["psnr"])


def test_pose_error_is_zero_for_the_truth_and_large_for_a_still_picture(held):
    truth = pose_errors(held, [clip.frames[1::APART] for clip in held])
    assert truth["pose_error_percent"] == 0
    assert truth["pose_found_percent"] == 100
    assert truth["pose_error_shuffled_percent"] > 2
    blurred = [np.clip(clip.frames[1::APART] * 0.5 + 60.0, 0, 255).astype(np.uint8) for clip in held]
    assert pose_errors(held, blurred)["pose_found_percent"] == 100
    still = pose_errors(held, [np.repeat(clip.frames[:1], 2, axis=0) for clip in held])
    assert still["pose_error_percent"] > 2
    assert still["pose_found_percent"] == 50


def test_a_stopped_comparison_goes_on_as_if_it_had_not_stopped(small, base, held, tmp_path):
    longer = small.model_copy(update={"steps": 24, "output": tmp_path})
    run(longer, CONTROLNET, base, held, LatentCache())
    run(small, CONTROLNET, base, held, LatentCache())
    resumed = small.model_copy(update={"steps": 24})
    run(resumed, CONTROLNET, base, held, LatentCache())
    last = f"{CONTROLNET}/checkpoint-0000024/ema.safetensors"
    whole, parts = load_file(tmp_path / last), load_file(small.output / last)
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) == 0
    log = small.output / CONTROLNET
    assert list(read_figures(log, [1, 20, 24])) == ["1", "20", "24"]
    with pytest.raises(ConfigError, match="no figures of step 100"):
        read_figures(log, [100])


def test_the_published_size_is_counted():
    size = published_size(width=64, height=128, num_frames=2)
    assert size["controlnext_parameters"] < size["controlnet_parameters"] / 100
    assert size["unet_parameters"] == pytest.approx(1.5246e9, rel=1e-4)
    assert size["controlnext_tflop"] < size["controlnet_tflop"] < size["unet_tflop"]


@pytest.mark.slow
def test_everything_is_compared_and_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "REPEATS", 1)
    config = small.model_copy(update={"output": tmp_path, "json_file": tmp_path / "claims.json"})
    evaluate_claims(config)
    figures = json.loads((tmp_path / "claims.json").read_text())
    assert set(figures["methods"]) == set(METHODS)
    for method in figures["methods"].values():
        assert method["step_s"] > 0 and method["inference_s"] > 0
        assert set(method["trainable_parameters"]) == {"control", "unet"}
        assert list(method["at_step"]) == ["1", "2", "4", "10", "20"]
        assert all("pose_error_percent" in entry for entry in method["at_step"].values())
    assert figures["ceiling"]["psnr"] > figures["without_control"]["psnr"]
    assert (tmp_path / "claims.png").stat().st_size > 10_000


def test_what_control_costs_pictures_is_counted_and_timed():
    figures = counted("sd15") | timed("sd15", 1, 8)
    assert figures["controlnet_parameters"] == 361_279_120
    assert (figures["controlnext_parameters"], figures["learned_parameters"]) == (3_526_400, 28_332_160)
    assert figures["controlnext_tflop"] / figures["base_tflop"] < 0.07
    assert figures["controlnet_tflop"] / figures["base_tflop"] > 0.3
    assert "3.5 M parameters, 28.3 M learning in all, and ControlNet 361.3 M" in line("sd15", figures)
