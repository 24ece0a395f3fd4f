"""Cross normalization and its place in the UNet, against recorded calls of the published code."""

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from posedance.stages.controlnext.inject import add_control, cross_normalize
from posedance.stages.controlnext.model import ControlNeXt


@pytest.fixture(scope="module")
def golden_unet(golden, fill, read_json):
    meta = read_json(golden / "unet_injection/meta.json")
    unet = UNetSpatioTemporalConditionModel(**meta["config"])
    return fill(unet, meta["seed"], meta["component"], meta["weights"])


def attach(unet):
    return ControlNeXt().attach(unet)


def recorded_calls(folder):
    paths = sorted(folder.glob("case_*.npz"))
    assert paths
    for path in paths:
        case = {key: torch.from_numpy(value) for key, value in np.load(path).items()}
        names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
        yield path.name, case, [case[name] for name in names]


def test_golden_injection(golden, golden_unet):
    for name, case, call in recorded_calls(golden / "unet_injection"):
        control = case["control_output"].float()
        after = []

        def record(module, args, output, after=after):
            after.append(output[0])

        with attach(golden_unet) as injection, injection.control(control, case["control_scale"]):
            probe = golden_unet.down_blocks[0].register_forward_hook(record)
            output = golden_unet(*call).sample
            probe.remove()
        assert torch.allclose(output, case["output"], rtol=0, atol=1e-4), name
        for key, step in (("down0_after", 1), ("down0_after_every40", 40)):
            if key in case:
                assert torch.allclose(after[0][:, ::step], case[key], rtol=0, atol=1e-4), name


def test_golden_unconditional_half_needs_no_control(golden, golden_unet):
    for name, case, call in recorded_calls(golden / "unet_injection"):
        scale = case["control_scale"].expand(len(case["control_output"]), 1, 1, 1)
        used = scale.flatten() != 0
        assert torch.equal(used, used.sort().values), "the controlled frames come last"
        control = case["control_output"].float()[used]
        with attach(golden_unet) as injection, injection.control(control, scale[used]):
            output = golden_unet(*call).sample
        assert torch.allclose(output, case["output"], rtol=0, atol=1e-4), name


def test_golden_detached_unet_is_untouched(golden, golden_unet):
    before = dict(golden_unet.down_blocks[0]._forward_hooks)
    injection = attach(golden_unet)
    for name, case, call in recorded_calls(golden / "unet_injection"):
        assert torch.allclose(golden_unet(*call).sample, case["output_without_control"], rtol=0, atol=1e-4), (
            name
        )
    injection.detach()
    assert dict(golden_unet.down_blocks[0]._forward_hooks) == before


def test_cross_normalize_takes_over_the_statistics():
    generator = torch.Generator().manual_seed(0)
    control = 5 + 3 * torch.randn(2, 8, 6, 6, generator=generator)
    hidden = -2 + 0.5 * torch.randn(2, 8, 4, 4, generator=generator)
    result = cross_normalize(control, hidden)
    for frame, target in zip(result, hidden, strict=True):
        assert frame.mean().item() == pytest.approx(target.mean().item(), abs=1e-4)
        assert frame.std().item() == pytest.approx(target.std().item(), rel=1e-4)


def test_half_precision_keeps_statistics_in_float32():
    generator = torch.Generator().manual_seed(0)
    control = 300 + 200 * torch.randn(1, 64, 16, 16, generator=generator)
    hidden = torch.randn(1, 64, 8, 8, generator=generator)
    exact = add_control(hidden, control)
    half = add_control(hidden.half(), control.half())
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), exact, atol=5e-3)


def test_gradient_reaches_control_and_features():
    control = torch.randn(2, 4, 5, 5, requires_grad=True)
    hidden = torch.randn(2, 4, 3, 3, requires_grad=True)
    add_control(hidden, control).square().sum().backward()
    assert control.grad.abs().sum() > 0
    assert hidden.grad.abs().sum() > 0


def test_more_control_than_frames_is_refused(golden_unet):
    call = (torch.zeros(1, 2, 8, 16, 16), 0.0, torch.zeros(1, 1, 32), torch.zeros(1, 3))
    with (
        attach(golden_unet) as injection,
        injection.control(torch.zeros(3, 320, 15, 15)),
        pytest.raises(ValueError, match="control of 3 frames"),
    ):
        golden_unet(*call)
