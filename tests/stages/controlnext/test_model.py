"""The ControlNeXt network: published keys and outputs, chunks, padding, saving, gradients."""

import numpy as np
import pytest
import torch

from posedance.stages.controlnext.model import ControlNeXt

SMALL = {
    "time_embed_dim": 32,
    "in_channels": (16, 16),
    "out_channels": (16, 32),
    "groups": (2, 4),
    "stem_channels": 8,
    "mid_groups": 4,
    "control_channels": 64,
    "time_proj_channels": 16,
}


@pytest.fixture
def small():
    torch.manual_seed(0)
    return ControlNeXt(**SMALL, stem_padding=1).eval()


@pytest.fixture
def frames():
    return torch.rand(2, 3, 3, 48, 32, generator=torch.Generator().manual_seed(1))


def test_golden_state_dict_is_the_published_one(golden, read_json):
    published = read_json(golden / "controlnext_svd/state_dict_keys.json")
    ours = {key: list(value.shape) for key, value in ControlNeXt().state_dict().items()}
    assert list(ours.items()) == [(key, value["shape"]) for key, value in published["state_dict"].items()]
    assert sum(np.prod(shape) for shape in ours.values()) == published["total_params"]


def test_golden_outputs(golden, fill, read_json):
    folder = golden / "controlnext_svd"
    meta = read_json(folder / "meta.json")
    config = read_json(folder / "state_dict_keys.json")["config"]
    model = fill(ControlNeXt(**config), meta["seed"], meta["component"], meta["weights"])
    cases = sorted(folder.glob("case_*.npz"))
    assert cases
    for path in cases:
        case = np.load(path)
        output = model(torch.from_numpy(case["sample"]), torch.from_numpy(case["timestep"]))
        np.testing.assert_allclose(output, case["output"], rtol=0, atol=1e-4, err_msg=path.name)


def test_chunks_change_nothing(small, frames):
    timestep = torch.tensor([0.3, -1.1])
    with torch.no_grad():
        whole = small(frames, timestep)
        assert torch.allclose(small(frames, timestep, chunk=1), whole, atol=1e-5)
        assert torch.allclose(small(frames, timestep, chunk=4), whole, atol=1e-5)


def test_features_without_time_serve_every_timestep(small, frames):
    with torch.no_grad():
        features = small.encode_frames(frames[0])
        for timestep in (-1.0, 0.0, 1.6):
            kept = small.apply_time(features, small.embed_time(timestep, 1))
            assert torch.allclose(kept, small(frames[:1], timestep), atol=1e-5)
    assert not torch.allclose(small(frames, -1.0), small(frames, 1.6), atol=1e-3)


def test_padding_changes_the_size_and_not_the_weights(small, frames):
    bare = ControlNeXt(**SMALL)
    bare.load_state_dict(small.state_dict(), strict=True)
    assert small(frames, 0.0).shape[-2:] == (6, 4)
    assert bare(frames, 0.0).shape[-2:] == (5, 3)


def test_widening_first_block_has_a_shortcut(frames):
    model = ControlNeXt(**{**SMALL, "in_channels": (16, 32), "out_channels": (32, 32)})
    assert model(frames, 0.0).shape[:2] == (6, 64)


def test_save_and_load(small, frames, tmp_path):
    small.save_pretrained(tmp_path)
    loaded = ControlNeXt.from_pretrained(tmp_path)
    assert loaded.config.stem_padding == 1
    assert torch.equal(loaded(frames, 0.5), small(frames, 0.5))
