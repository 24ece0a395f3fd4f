"""Bases from folders and single files, LoRA weights on them, and one folder of all."""

import re

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from posedance.stages import attach_control, load_pictures
from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.image.attach import network_of
from posedance.stages.image.bases import load_base, load_loras
from posedance.stages.image.convert import convert_pictures, save_pictures
from posedance.stages.image.families import STEMMED, inject
from posedance.stages.image.tiny import tiny_pipeline
from posedance.stages.image.weights import load_network_weights
from posedance.stages.svd.files.names import original_name


def close(ours, recorded):
    bound = 1e-4 + 3e-5 * float(np.abs(recorded).max())
    np.testing.assert_allclose(np.asarray(ours), recorded, rtol=0, atol=bound)


LORAS = {"kohya": "lora_kohya_sgm_names.safetensors", "diffusers": "lora_diffusers_names.safetensors"}


@pytest.mark.parametrize(
    ("kind", "scale"), [("kohya", 1.0), ("kohya", 0.6), ("diffusers", 1.0), ("diffusers", 0.6)]
)
def test_golden_lora_after_increments(golden, fill, read_json, kind, scale):
    folder = golden / "weight_files"
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}")
    meta = read_json(folder / "meta.json")
    unet = fill(UNet2DConditionModel(**meta["unet"]), meta["seed"], "unet", meta["weights"]["base"])
    pipeline = StableDiffusionXLPipeline(
        None, None, None, None, None, unet, UniPCMultistepScheduler(), add_watermarker=False
    )
    recorded = "increments_sgm_names_fp16" if kind == "kohya" else "unet_weight_increasements"
    load_network_weights(unet, folder / f"{recorded}.safetensors")
    load_loras(pipeline, [(folder / LORAS[kind], scale)])
    case = {key: torch.from_numpy(value) for key, value in np.load(folder / "case_a.npz").items()}
    added = {key: case[key] for key in ("text_embeds", "time_ids")}
    module = ControlNeXt(**STEMMED, control_channels=meta["controlnext"]["final_out_channels"])
    with inject(unet, module) as injection, injection.control(case["control_output"]), torch.no_grad():
        output = unet(
            case["sample"], case["timestep"], case["encoder_hidden_states"], added_cond_kwargs=added
        ).sample
    ending = "" if scale == 1.0 else f"_weight_{scale}"
    close(output, case[f"output_increments_then_{kind}_lora{ending}"].numpy())


def lora_file(pipeline, path, seed):
    """LoRA weights for the attention of a UNet, with diffusers' names."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, layer in network_of(pipeline).named_modules():
        if name.endswith("attn2.to_q"):
            prefix = f"unet.{name}.lora_"
            state[f"{prefix}A.weight"] = torch.randn(2, layer.in_features, generator=generator)
            state[f"{prefix}B.weight"] = torch.randn(layer.out_features, 2, generator=generator)
    save_file(state, path)
    return path


def test_several_loras_each_with_its_scale(tmp_path, paint):
    pipeline = tiny_pipeline("sd15")
    pipeline.set_progress_bar_config(disable=True)
    plain = paint(pipeline, steps=1)
    files = [lora_file(pipeline, tmp_path / f"a.b{seed}.safetensors", seed) for seed in (1, 2)]
    made = {}
    for scales in ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        names = load_loras(pipeline, list(zip(files, scales, strict=True)))
        assert len(set(names)) == 2
        made[scales] = paint(pipeline, steps=1)
        with pytest.raises(ConfigError, match="give all of them at once"):
            load_loras(pipeline, [(files[0], 1.0)])
        pipeline.unload_lora_weights()
    assert torch.allclose(made[0.0, 0.0], plain, atol=1e-5)
    assert (made[1.0, 0.0] - plain).abs().max() > 1e-3
    assert (made[1.0, 1.0] - made[1.0, 0.0]).abs().max() > 1e-3
    (tmp_path / "trained").mkdir()
    files[0].rename(tmp_path / "trained/pytorch_lora_weights.safetensors")
    load_loras(pipeline, [(tmp_path / "trained", 1.0)])
    assert torch.allclose(paint(pipeline, steps=1), made[1.0, 0.0], atol=1e-5)


def test_files_without_lora_weights_are_refused(tmp_path):
    pipeline = tiny_pipeline("sd15")
    other = lora_file(tiny_pipeline("sdxl"), tmp_path / "other.safetensors", 1)
    save_file({"a": torch.ones(1)}, tmp_path / "none.safetensors")
    for path, line in (
        (tmp_path / "none.safetensors", "holds no LoRA weights for this base"),
        (other, "of another base: of its 4 layers 3 are not in this one"),
    ):
        with pytest.raises(WeightsError, match=line):
            load_loras(pipeline, [(path, 1.0)])
        assert not any(pipeline.get_list_adapters().values())
    with pytest.raises(WeightsError, match="do not exist, or hold no pytorch_lora"):
        load_loras(pipeline, [(tmp_path / "gone.safetensors", 1.0)])


def original_vae_name(key, levels=4):
    """The original name of a weight of diffusers' AutoencoderKL."""
    for ours, theirs in (
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
        (r"group_norm", "norm"),
        (r"to_([qkv])\.", r"\1."),
        (r"to_out\.0", "proj_out"),
    ):
        key = re.sub(ours, theirs, key)
    return key


def prefixed(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def clip_state(encoder, prefix):
    """A CLIP text encoder's weights, by the names of files with `text_model.`."""
    state = encoder.state_dict()
    known = ("text_model.", "text_projection.")
    return {f"{prefix}{k if k.startswith(known) else f'text_model.{k}'}": v for k, v in state.items()}


def open_clip_state(encoder, prefix):
    """The same by OpenCLIP's names, where the three projections are one matrix."""
    state, found = encoder.state_dict(), {}
    for key, value in state.items():
        name = key
        for ours, theirs in (
            ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
            ("text_model.embeddings.token_embedding", "token_embedding"),
            ("text_model.final_layer_norm", "ln_final"),
            ("text_model.encoder.layers", "transformer.resblocks"),
            ("layer_norm", "ln_"),
            (".fc1.", ".c_fc."),
            (".fc2.", ".c_proj."),
            (".self_attn.", ".attn."),
            (".q_proj.", ".in_proj_"),
            ("text_projection.weight", "text_projection"),
        ):
            name = name.replace(ours, theirs)
        if ".q_proj." in key:
            value = torch.cat([state[key.replace(".q_", f".{letter}_")] for letter in "qkv"])
        if not re.search(r"\.[kv]_proj\.", key):
            found[f"{prefix}{name}"] = value.T if name == "text_projection" else value
    return found


def swapped(value):
    """Scale and shift, which SD3's last norms have the other way round."""
    return torch.cat(value.chunk(2)[::-1])


def sd3_state(transformer):
    """SD3's transformer by the names that were published, its three projections of a stream in one."""
    state = transformer.state_dict()
    last = f"transformer_blocks.{transformer.config.num_layers - 1}.norm1_context."
    found = {}
    for key, value in state.items():
        if key.startswith((last, "norm_out.")):
            value = swapped(value)
        name = key
        for ours, theirs in (
            (r"pos_embed\.pos_embed", "pos_embed"),
            (r"pos_embed\.proj", "x_embedder.proj"),
            (r"time_text_embed\.timestep_embedder\.linear_(\d)", r"t_embedder.mlp.L\1"),
            (r"time_text_embed\.text_embedder\.linear_(\d)", r"y_embedder.mlp.L\1"),
            ("mlp.L1", "mlp.0"),
            ("mlp.L2", "mlp.2"),
            ("proj_out", "final_layer.linear"),
            (r"norm_out\.linear", "final_layer.adaLN_modulation.1"),
            (r"transformer_blocks\.(\d+)\.(ff_context|norm1_context)", r"joint_blocks.\1.context_block.\2"),
            (
                r"transformer_blocks\.(\d+)\.(attn\.(?:add_|to_add|norm_added))",
                r"joint_blocks.\1.context_block.\2",
            ),
            (r"transformer_blocks\.(\d+)\.", r"joint_blocks.\1.x_block."),
            (r"(?:ff|ff_context)\.net\.0\.proj", "mlp.fc1"),
            (r"(?:ff|ff_context)\.net\.2", "mlp.fc2"),
            (r"(?:norm1|norm1_context)\.linear", "adaLN_modulation.1"),
            (r"norm_(?:added_)?([qk])", r"ln_\1"),
            (r"to_out\.0|to_add_out", "proj"),
            (r"to_q|add_q_proj", "qkv"),
        ):
            name = re.sub(ours, theirs, name)
        if ".qkv." in name:
            q = "to_q" if "to_q" in key else "add_q_proj"
            value = torch.cat([state[key.replace(q, q.replace("q", letter, 1))] for letter in "qkv"])
        if not re.search(r"to_[kv]\.|add_[kv]_proj", name):
            found[name] = value
    return found


def sd15_file(pipeline):
    unet = pipeline.unet.state_dict()
    return {
        **{f"model.diffusion_model.{original_name(key, list(unet), 1)}": v for key, v in unet.items()},
        **{f"first_stage_model.{original_vae_name(k)}": v for k, v in pipeline.vae.state_dict().items()},
        **clip_state(pipeline.text_encoder, "cond_stage_model.transformer."),
    }


def sdxl_file(pipeline):
    first = clip_state(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
    others = {key: v for key, v in sd15_file(pipeline).items() if not key.startswith("cond_stage_model.")}
    return first | others | open_clip_state(pipeline.text_encoder_2, "conditioner.embedders.1.model.")


def sd3_file(pipeline):
    return {
        **prefixed("model.diffusion_model.", sd3_state(pipeline.transformer)),
        **{f"first_stage_model.{original_vae_name(k)}": v for k, v in pipeline.vae.state_dict().items()},
        **clip_state(pipeline.text_encoder, "text_encoders.clip_l.transformer."),
        **clip_state(pipeline.text_encoder_2, "text_encoders.clip_g.transformer."),
    }


def wider(pipeline, **changes):
    """A pipeline whose second text encoder is wider than the first, as published: files tell them by that."""
    config = CLIPTextConfig(
        **pipeline.text_encoder_2.config.to_dict() | {"hidden_size": 48, "projection_dim": 48}
    )
    for name, network in pipeline.components.items():
        if name in ("unet", "transformer"):
            replaced = type(network).from_config(dict(network.config) | changes)
            pipeline.register_modules(**{name: replaced.eval()})
    pipeline.register_modules(text_encoder_2=CLIPTextModelWithProjection(config).eval())
    return pipeline


SINGLE_FILES = {
    "sd15": (sd15_file, {}, ("unet", "vae", "text_encoder")),
    "sdxl": (
        sdxl_file,
        {"cross_attention_dim": 80, "projection_class_embeddings_input_dim": 48 + 6 * 8},
        ("unet", "vae", "text_encoder", "text_encoder_2"),
    ),
    "sd3": (
        sd3_file,
        {
            "joint_attention_dim": 80,
            "pooled_projection_dim": 80,
            "qk_norm": "rms_norm",
            "dual_attention_layers": (0,),
        },
        ("transformer", "vae", "text_encoder", "text_encoder_2"),
    ),
}


@pytest.mark.parametrize(
    ("base", "ending"),
    [("sd15", "safetensors"), ("sd15", "ckpt"), ("sdxl", "safetensors"), ("sd3", "safetensors")],
)
def test_a_single_file_is_the_base_that_its_folder_is(tmp_path, monkeypatch, base, ending):
    """Without the network: its configs come from a folder."""
    names_of, changes, parts = SINGLE_FILES[base]
    pipeline = tiny_pipeline(base)
    if base != "sd15":
        pipeline = wider(pipeline, **changes)
    if base == "sd3":  # diffusers takes this one for no projection, as SD3's is
        torch.nn.init.eye_(pipeline.text_encoder.text_projection.weight)
    pipeline.save_pretrained(tmp_path / "base")
    state = {key: value.contiguous() for key, value in names_of(pipeline).items()}
    path = tmp_path / f"base.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save({"state_dict": state}, path)
    for weights in (tmp_path / "base").glob("*/*.safetensors"):
        weights.unlink()
    loaded = load_base(str(path), config=str(tmp_path / "base"))
    if ending == "ckpt":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(
            WeightsError, match="holds weights alone, and its configs cannot be had from the hub"
        ):
            load_base(str(path))
    for part in parts:
        theirs, ours = getattr(loaded, part).state_dict(), getattr(pipeline, part).state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in ours), part


def test_what_a_single_file_of_sd3_lacks_is_its_folders(tmp_path, caplog):
    pipeline = tiny_pipeline("sd3")
    pipeline.save_pretrained(tmp_path / "base")
    state = {k: v.contiguous() for k, v in sd3_file(pipeline).items() if not k.startswith("text_encoders.")}
    save_file(state, tmp_path / "alone.safetensors")
    with caplog.at_level("INFO", "posedance"):
        loaded = load_base(str(tmp_path / "alone.safetensors"), config=str(tmp_path / "base"))
    assert torch.equal(
        loaded.text_encoder_2.text_projection.weight, pipeline.text_encoder_2.text_projection.weight
    )
    assert loaded.text_encoder_3 is None and "alone.safetensors has no T5" in caplog.text
    for weights in (tmp_path / "base").glob("text_encoder*/*.safetensors"):
        weights.unlink()
    with pytest.raises(WeightsError, match="lacks a part of its base, such as a text encoder: name a folder"):
        load_base(str(tmp_path / "alone.safetensors"), config=str(tmp_path / "base"))


def test_bases_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "folder").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"xx")
    for base, line in (
        ("folder", "cannot be loaded as a base"),
        ("none.safetensors", "no single file of SD1.5, SDXL or SD3"),
        ("torn.safetensors", "no readable weight file"),
    ):
        with pytest.raises(WeightsError, match=line) as told:
            load_base(str(tmp_path / base))
        assert "\n" not in str(told.value)
    with pytest.raises(ConfigError, match="config is for single files"):
        load_base("tiny-sd15x", config="x")


@pytest.mark.parametrize("base", ["sd15", "sdxl", "sd3"])
def test_one_folder_of_base_module_and_weights(tmp_path, narrow, paint, conditions, base):
    """It makes what its parts make; diffusers loads it too."""
    pipeline = tiny_pipeline(base)
    network = network_of(pipeline)
    module = narrow(network)
    pipeline.save_pretrained(tmp_path / "base")
    save_file(module.state_dict(), tmp_path / "controlnet.safetensors")
    some = {key: value + 1 for key, value in network.state_dict().items() if "to_out" in key}
    save_file(some, tmp_path / "unet.safetensors")
    files = {"controlnext": tmp_path / "controlnet.safetensors", "unet": [tmp_path / "unet.safetensors"]}
    sources = convert_pictures(
        str(tmp_path / "base"), tmp_path / "model", **files, kind="weights", dtype="fp32"
    )
    assert [source.tensors for source in sources] == [len(module.state_dict()), len(some)]
    load_network_weights(network, tmp_path / "unet.safetensors", "weights")
    loaded, control = load_pictures(tmp_path / "model")
    made = []
    for pipe, part in ((pipeline, module), (loaded, control)):
        pipe.set_progress_bar_config(disable=True)
        with attach_control(pipe, part, conditions[:1]):
            made.append(paint(pipe, steps=1))
    assert torch.equal(*made)
    card = (tmp_path / "model/README.md").read_text()
    for word in ("Apache-2.0", "licen", "fp32", *(source.sha256 for source in sources)):
        assert word in card
    assert str(tmp_path) not in card
    absent = {"text_encoder_3": None, "tokenizer_3": None} if base == "sd3" else {}
    assert isinstance(DiffusionPipeline.from_pretrained(tmp_path / "model", **absent), type(pipeline))
    with pytest.raises(ConfigError, match="is there already and not empty"):
        convert_pictures(str(tmp_path / "base"), tmp_path / "model", **files)


def test_parts_of_different_bases_are_refused(tmp_path, narrow):
    module = narrow(tiny_pipeline("sd3").transformer)
    save_file(module.state_dict(), tmp_path / "controlnet.safetensors")
    with pytest.raises(ConfigError, match="is not of this sdxl network"):
        load_pictures("tiny-sdxl", tmp_path / "controlnet.safetensors")
    assert load_pictures("tiny-sd3", tmp_path / "controlnet.safetensors", dtype=torch.float16)[1].dtype == (
        torch.float16
    )
    with pytest.raises(WeightsError, match=r"has no controlnext/config.json"):
        load_pictures(tmp_path)
    with pytest.raises(ConfigError, match="name the control module too"):
        load_pictures(tmp_path, unet=["a"])


def test_a_folder_with_only_half_precision_files(tmp_path, narrow):
    pipeline = tiny_pipeline("sdxl").to(torch.float16)
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    assert load_base(str(tmp_path / "half")).unet.dtype == torch.float32
    save_pictures(pipeline, narrow(pipeline.unet), tmp_path / "model")
    replaced = load_base(str(tmp_path / "model"), vae=str(tmp_path / "half/vae"))
    assert torch.equal(
        replaced.vae.state_dict()["encoder.conv_in.bias"], pipeline.vae.encoder.conv_in.bias.float()
    )
