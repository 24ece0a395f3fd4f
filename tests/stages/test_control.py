"""The contract of control modules, run over all there are, and how their features are cut and joined."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from posedance.pipeline.evaluate.claims.controlnet import ControlNet
from posedance.stages.control import (
    ControlModule,
    feature_bytes,
    frame_features,
    join_features,
)
from posedance.stages.mimicmotion.pose_net import PoseNet
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.levers.checkpointing import checkpoint_whole

WIDTH = 32
"""Channels of the tiny UNet's first level."""


@pytest.fixture(scope="module")
def tiny():
    return tiny_random()


@pytest.fixture(params=["controlnext", "pose_net", "controlnet"])
def module(request, tiny):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = (
            {
                "controlnext": lambda: tiny.controlnext,
                "pose_net": lambda: PoseNet(control_channels=WIDTH),
                "controlnet": lambda: ControlNet(tiny.unet, hint_channels=(4, 8, 8, 8)),
            }[request.param]()
            .eval()
            .requires_grad_(True)
        )
        for parameter in made.parameters():  # a ControlNet starts with zeros
            torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture
def frames():
    return torch.rand(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def test_contract_every_control_module_keeps_the_protocol(module):
    assert isinstance(module, ControlModule)
    assert (module.device, module.dtype) == (torch.device("cpu"), torch.float32)


@torch.no_grad()
def test_contract_a_call_is_its_three_parts(module, frames):
    timestep = torch.tensor(0.3)
    parts = module.apply_time(module.encode_frames(frames), module.embed_time(timestep, 1))
    assert torch.allclose(module(frames[None], timestep), parts, atol=1e-6)
    assert torch.allclose(module(frames[None], timestep, chunk=2), parts, atol=1e-5)
    assert parts.shape[:2] == (5, WIDTH)


def test_contract_checkpointing_keeps_only_the_frames_and_gives_the_same_gradients(module, frames):
    def step() -> tuple[list[torch.Tensor], int]:
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        module.zero_grad()
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = module(frames[None], torch.tensor(0.3)).square().mean()
        loss.backward()
        return [p.grad.clone() for p in module.parameters() if p.grad is not None], kept

    plain, all_of_it = step()
    with checkpoint_whole(module):
        again, the_frames = step()
    assert len(plain) == len(again) > 0
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))
    assert the_frames < all_of_it / 4


@torch.no_grad()
def test_contract_features_are_cut_and_joined(module, frames):
    features = module.encode_frames(frames)
    alone = [frame_features(features, index) for index in range(len(frames))]
    assert sum(map(feature_bytes, alone)) == feature_bytes(features)
    assert all(
        torch.equal(joined, whole) for joined, whole in zip(join_features(alone), features, strict=True)
    )
    assert alone[0][0].data_ptr() != features[0].data_ptr()


@torch.no_grad()
def test_contract_the_features_join_the_unet_and_leave_it(module, frames, tiny):
    sample, token = torch.randn(1, 5, 8, 4, 6), torch.randn(1, 1, 32)

    def call():
        return tiny.unet(sample, torch.tensor([0.3]), encoder_hidden_states=token,
                         added_time_ids=torch.zeros(1, 3), return_dict=False)[0]  # fmt: skip

    plain, features = call(), module(frames[None], torch.tensor(0.3))
    with module.attach(tiny.unet, 0.5) as injection:
        assert torch.equal(call(), plain)
        with injection.control(features):
            assert not torch.allclose(call(), plain, atol=1e-4)
        assert torch.equal(call(), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny.unet.modules())
    assert torch.equal(call(), plain)
