"""Published weight files for pictures: told apart, put on a base, every key accounted for."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.image.attach import attach
from posedance.stages.image.families import PUBLISHED_SD15, STEMMED, inject
from posedance.stages.image.sizes import SDXL
from posedance.stages.image.tiny import tiny_pipeline
from posedance.stages.image.weights import find_control, load_control, load_network_weights
from posedance.stages.svd.files.names import original_name


def close(ours, recorded):
    bound = 1e-4 + 3e-5 * float(np.abs(recorded).max())
    np.testing.assert_allclose(np.asarray(ours), recorded, rtol=0, atol=bound)


def sums(state, recorded):
    """Check the recorded sums of all weights."""
    weights = [value.double() for value in state.values() if value.is_floating_point()]
    assert sum(w.sum().item() for w in weights) == pytest.approx(recorded["sum"], abs=1e-2)
    assert sum(w.abs().sum().item() for w in weights) == pytest.approx(recorded["abs_sum"], rel=1e-6)


def test_golden_increments(golden, fill, read_json, recipe, tmp_path):
    folder = golden / "weight_increments"
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}")
    meta = read_json(folder / "meta.json")
    unet = UNet2DConditionModel(**meta["config"])
    base = {key: recipe(meta["seed"], "unet", key, value.shape) for key, value in unet.state_dict().items()}
    unet.load_state_dict(base)
    unet.eval().requires_grad_(False)
    state = {key: 0.05 * recipe(meta["seed"], "increment", key, base[key].shape) for key in meta["keys"]}
    save_file(state, tmp_path / "unet.safetensors")
    loaded = load_network_weights(unet, tmp_path / "unet.safetensors")
    assert (loaded.kind, loaded.tensors, loaded.whole) == ("increments", len(meta["keys"]), False)
    sums(unet.state_dict(), meta["weights_after"])
    for path in sorted(folder.glob("case_*.npz")):
        case = {key: torch.from_numpy(value) for key, value in np.load(path).items()}
        added = {key: case[key] for key in ("text_embeds", "time_ids")}
        output = unet(
            case["sample"], case["timestep"], case["encoder_hidden_states"], added_cond_kwargs=added
        ).sample
        close(output, case["output"].numpy())


@pytest.mark.parametrize(
    ("file", "name", "kind"),
    [
        ("increments_sgm_names_fp16", "increments_sgm", "increments"),
        ("unet_weight_increasements", "increments", "increments"),
        ("unet_subset_fp16", "subset", "weights"),
    ],
)
def test_golden_published_files(golden, fill, read_json, file, name, kind):
    folder = golden / "weight_files"
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}")
    meta = read_json(folder / "meta.json")
    unet = fill(UNet2DConditionModel(**meta["unet"]), meta["seed"], "unet", meta["weights"]["base"])
    loaded = load_network_weights(unet, folder / f"{file}.safetensors")
    assert (loaded.kind, loaded.renamed) == (kind, "sgm" in file)
    sums(unet.state_dict(), meta["weights"][name])
    case = {key: torch.from_numpy(value) for key, value in np.load(folder / "case_a.npz").items()}
    added = {key: case[key] for key in ("text_embeds", "time_ids")}
    module = ControlNeXt(**STEMMED, control_channels=meta["controlnext"]["final_out_channels"])
    fill(module, meta["seed"], "controlnext_sdxl", meta["control_weights"])
    call = (case["sample"], case["timestep"], case["encoder_hidden_states"])
    with inject(unet, module) as injection, injection.control(case["control_output"]):
        output = unet(*call, added_cond_kwargs=added).sample
    close(output, case[f"output_{name}"].numpy())
    with attach(unet, module, case["control_image"]):
        close(unet(*call, added_cond_kwargs=added).sample, case[f"output_{name}"].numpy())


def test_golden_names_of_the_whole_sdxl_unet(golden):
    path = golden / "weight_files/sdxl_unet_names_sgm_to_diffusers.json.gz"
    if not path.is_file():
        pytest.skip(f"no golden data at {path}")
    recorded = json.loads(gzip.decompress(path.read_bytes()))
    with torch.device("meta"):
        keys = list(UNet2DConditionModel(**SDXL).state_dict())
    assert {original_name(key, keys, 2): key for key in keys} == recorded


def test_names_of_the_whole_sd15_unet_are_one_to_one():
    with torch.device("meta"):
        keys = list(UNet2DConditionModel(cross_attention_dim=768).state_dict())
    originals = {original_name(key, keys, 2) for key in keys}
    assert len(originals) == len(keys) == 686
    assert {"output_blocks.2.1.conv.weight", "output_blocks.5.2.conv.weight", "input_blocks.3.0.op.bias"} < (
        originals
    )


@pytest.fixture
def unet():
    return tiny_pipeline("sdxl").unet


def saved(state, path):
    state = {key: value.contiguous() for key, value in state.items()}
    torch.save(state, path) if path.suffix == ".bin" else save_file(state, path)
    return path


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("original", [False, True])
def test_whole_subset_and_increments_are_told_apart(unet, tmp_path, ending, original):
    base = {key: value.clone() for key, value in unet.state_dict().items()}
    target = {key: value + 0.01 * torch.randn_like(value) for key, value in base.items()}
    some = [key for key in base if "attn2.to_out" in key]

    def named(state):
        keys = list(base)
        return {original_name(key, keys, 1) if original else key: value for key, value in state.items()}

    for what, state, kind in (
        ("unet", target, "weights"),
        ("unet", {key: target[key] for key in some}, "weights"),
        ("unet", {key: target[key] - base[key] for key in some if key.endswith("weight")}, "increments"),
        ("unet_weight_increasements", {key: target[key] - base[key] for key in base}, "increments"),
    ):
        unet.load_state_dict(base)
        path = saved(named(state), tmp_path / f"{what}.{ending}")
        loaded = load_network_weights(unet, path)
        assert (loaded.kind, loaded.renamed, loaded.tensors) == (kind, original, len(state))
        assert loaded.whole == (len(state) == len(base))
        for key, value in unet.state_dict().items():
            expected = target[key] if key in state else base[key]
            assert torch.allclose(value, expected, atol=1e-6), key


def test_files_with_only_late_blocks_are_known_by_their_names(unet, tmp_path):
    keys = list(unet.state_dict())
    some = {key: torch.ones_like(unet.state_dict()[key]) for key in keys if key.startswith("mid_block.")}
    path = saved({original_name(k, keys, 1): v for k, v in some.items()}, tmp_path / "unet.safetensors")
    assert load_network_weights(unet, path, "weights").renamed
    assert float(unet.mid_block.resnets[0].conv1.weight.min()) == 1


def test_increments_are_added_in_float32(unet, tmp_path):
    key = "conv_in.weight"
    unet.half()
    base = unet.state_dict()[key].float()
    saved({key: torch.full_like(base, 3e-5)}, tmp_path / "increments.safetensors")
    load_network_weights(unet, tmp_path / "increments.safetensors")
    assert torch.equal(unet.state_dict()[key], (base + 3e-5).half())


def test_what_does_not_fit_is_listed(unet, tmp_path):
    state = unet.state_dict()
    for change, line in (
        ({"conv_in.wait": torch.ones(1)}, "1 unexpected: conv_in.wait"),
        ({"conv_in.bias": torch.ones(2)}, r"1 of another shape: conv_in.bias \[2\] instead of \[32\]"),
        ({"conv_in.weight": 0.3 * state["conv_in.weight"]}, "may hold weights or increments"),
        ({}, "is empty"),
    ):
        path = saved(change, tmp_path / "unet.safetensors")
        with pytest.raises(WeightsError, match=line):
            load_network_weights(unet, path)
    assert torch.equal(unet.state_dict()["conv_in.bias"], state["conv_in.bias"])


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize(
    "config",
    [
        STEMMED,
        STEMMED | {"control_channels": 1536, "patch_size": 2},
        PUBLISHED_SD15,
        STEMMED | {"control_channels": 32, "in_channels": (16, 16), "out_channels": (16, 32)},
    ],
)
def test_modules_are_told_by_their_shapes(tmp_path, config, ending):
    module = ControlNeXt(**config)
    path = saved(module.state_dict(), tmp_path / f"controlnet.{ending}")
    for source in (path, tmp_path):
        loaded = load_control(source)
        assert {key: loaded.config[key] for key in config} == config
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters(), strict=True))


def test_modules_of_other_kinds_are_refused(tmp_path):
    first = ControlNeXt(**STEMMED, control_channels=1280).state_dict()
    with pytest.raises(WeightsError, match="ControlNeXt-SVD v1"):
        load_control(saved(first, tmp_path / "v1.safetensors"))
    with pytest.raises(WeightsError, match=r"no ControlNeXt: it has no mid_convs.1.weight among its 1 keys"):
        load_control(saved({"a": torch.ones(1)}, tmp_path / "other.safetensors"))
    more = ControlNeXt(**STEMMED).state_dict() | {"extra": torch.ones(1)}
    with pytest.raises(WeightsError, match="1 unexpected: extra"):
        load_control(saved(more, tmp_path / "more.safetensors"))
    with pytest.raises(WeightsError, match="holds no controlnet or controlnext"):
        load_control(tmp_path)


def test_a_folder_of_our_own_keeps_its_config(tmp_path, narrow, unet):
    module = narrow(unet)
    module.save_pretrained(tmp_path / "controlnext")
    loaded = load_control(tmp_path)
    assert dict(loaded.config)["in_channels"] == [16, 16]
    state = load_file(tmp_path / "controlnext/diffusion_pytorch_model.safetensors")
    assert state.keys() == loaded.state_dict().keys()


def test_weights_come_before_loras(unet, tmp_path):
    from posedance.stages.svd.files.lora import add_lora

    add_lora(unet, ["mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"], 2)
    path = saved({"conv_in.bias": torch.zeros(32)}, tmp_path / "unet.safetensors")
    with pytest.raises(ConfigError, match=r"load unet.safetensors before them"):
        load_network_weights(unet, path)


def test_a_control_module_from_the_hub(tmp_path, narrow, pipelines, monkeypatch):
    """From the hub's cache, without network: a repository of one, and a file in another."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    module = narrow(pipelines["sd15"].unet)
    for name, file in (("one", "controlnet.safetensors"), ("many", "pose/weights.safetensors")):
        hub = tmp_path / f"models--acme--{name}"
        path = hub / "snapshots" / ("0" * 40) / file
        path.parent.mkdir(parents=True)
        (hub / "refs").mkdir()
        (hub / "refs/main").write_text("0" * 40)
        save_file(module.state_dict(), path)
    for source in ("acme/one", "acme/many/pose/weights.safetensors"):
        found = load_control(find_control(source))
        assert all(torch.equal(*pair) for pair in zip(found.parameters(), module.parameters(), strict=True))
    with pytest.raises(WeightsError, match="acme/none is no folder and cannot be had from the hub"):
        find_control("acme/none")
    assert find_control("./acme/none") == Path("acme/none")
