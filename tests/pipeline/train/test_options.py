"""Options of the trainer: precision, 8 bits, LoRA, checkpointing, kept latents, and the plan before."""

import json
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from posedance.pipeline.cli import main
from posedance.pipeline.train.activations import activation_bytes, meta_parts
from posedance.pipeline.train.checkpoints import checkpoints, differences
from posedance.pipeline.train.data import DataConfig, describe_data
from posedance.pipeline.train.identity import data_identity
from posedance.pipeline.train.plan import memory_plan, plan
from posedance.pipeline.train.task import VideoTask
from posedance.pipeline.train.train import train
from posedance.stages.errors import ConfigError
from posedance.stages.models import load_generator
from posedance.stages.svd.files.lora import load_lora
from posedance.stages.svd.memory.footprint import LiveBytes

FULL = Path(__file__).resolve().parents[3] / "configs" / "train" / "full.yaml"


def resumed_equals_whole(settings, tmp_path, losses):
    """Train twice, once with a stop in the middle; returns the folder of the second run."""
    train(settings)
    other = settings.model_copy(update={"output": tmp_path / "resumed"})
    train(other.model_copy(update={"loop": other.loop.model_copy(update={"steps": 2})}))
    train(other)
    assert losses(tmp_path / "resumed") == pytest.approx(losses(settings.output), abs=1e-6)
    return tmp_path / "resumed"


def test_fp16_scales_its_losses_and_resumes(base, config, tmp_path, losses):
    settings = config(base, tmp_path / "whole", loop={"precision": "fp16", "log_every": 1})
    folder = resumed_equals_whole(settings, tmp_path, losses)
    state = json.loads((checkpoints(folder)[-1] / "state.json").read_text())
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    overflows = [entry["overflows"] for entry in entries if "overflows" in entry]
    assert len(overflows) == 4 and overflows[-1] == 0
    assert state["scaler"]["scale"] == 65536 / 2 ** sum(overflows)


def test_an_overflow_in_fp16_skips_the_step_and_halves_the_scale(base, config, tmp_path):
    settings = config(base, tmp_path, loop={"precision": "fp16", "steps": 2})
    train(settings)
    last = checkpoints(tmp_path)[-1]
    state = json.loads((last / "state.json").read_text())
    state["scaler"] |= {"scale": 2.0**80, "_growth_tracker": 0}
    (last / "state.json").write_text(json.dumps(state))
    before = load_file(last / "controlnext.safetensors")
    train(settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": 4})}))
    after = checkpoints(tmp_path)[-1]
    assert json.loads((after / "state.json").read_text())["scaler"]["scale"] == 2.0**78
    same = load_file(after / "controlnext.safetensors")
    assert all(torch.equal(before[name], same[name]) for name in before)


def test_moments_in_8_bits_resume(base, config, tmp_path, losses):
    pytest.importorskip("bitsandbytes", reason="pip install 'posedance[eight-bit]'")
    settings = config(base, tmp_path / "whole", loop={"eight_bit": True, "log_every": 1})
    folder = resumed_equals_whole(settings, tmp_path, losses)
    moments = load_file(checkpoints(folder)[-1] / "optimizer.safetensors")
    assert torch.uint8 in {value.dtype for name, value in moments.items() if name.endswith(".state1")}


def test_8_bits_without_bitsandbytes_say_what_to_install(base, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"pip install 'posedance\[eight-bit\]'"):
        train(config(base, tmp_path, loop={"eight_bit": True}))


def test_lora_and_controlnext_alone_learn_and_can_be_loaded(base, config, tmp_path):
    train(config(base, tmp_path / "base", loop={"steps": 1}))
    model = {
        "base": tmp_path / "base" / "model",
        "width": 32,
        "height": 32,
        "canvas": 96,
        "window": 4,
        "overlap": 1,
    }
    settings = config(
        base, tmp_path / "lora", model=model, lora_rank=2, learn="to_out+to_v", loop={"learning_rate": 0.01}
    )
    names = [name for name, _ in VideoTask(settings).trainable()]
    unet = [name for name in names if name.startswith("unet.")]
    assert unet and all(".lora_A." in name or ".lora_B." in name for name in unet)
    assert all("to_out" in name or "to_v" in name for name in unet)
    assert {name.partition(".")[0] for name in names} == {"unet", "controlnext"}
    train(settings)
    plain, trained = (load_generator(str(tmp_path / name / "model")) for name in ("base", "lora"))
    learned = load_file(tmp_path / "lora" / "lora.safetensors")
    assert load_lora(plain.unet, tmp_path / "lora" / "lora.safetensors") == len(learned) // 2
    for generator in (plain, trained):
        generator.to("cpu", torch.float32)
    inputs = (torch.randn(1, 3, 8, 8, 8), torch.tensor(0.5), torch.randn(1, 1, 16), torch.ones(1, 3))
    with torch.no_grad():
        with_lora, merged = plain.unet(*inputs).sample, trained.unet(*inputs).sample
        assert torch.allclose(with_lora, merged, atol=5e-3)
        weight = "mid_block.attentions.0.transformer_blocks.0.attn1.to_v.base_layer.weight"
        change = (
            trained.unet.state_dict()[weight.replace(".base_layer", "")] - plain.unet.state_dict()[weight]
        )
    assert change.abs().max() > 1e-3


def test_lora_needs_layers(base, config, tmp_path):
    with pytest.raises(ConfigError, match="names no layer"):
        VideoTask(config(base, tmp_path, learn="none", lora_rank=2))


def test_checkpointing_changes_no_gradient(base, config, tmp_path):
    gradients = []
    for wanted in (False, True):
        task = VideoTask(config(base, tmp_path, gradient_checkpointing=wanted))
        named = task.trainable()
        task.loss(0, 0, next(iter(task.batches(0, 1, range(1)))))[0].backward()
        gradients.append({name: p.grad for name, p in named if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and len(plain) > 50
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_checkpointing_is_for_clips(base, config, tmp_path):
    with pytest.raises(ValidationError, match="is for clips"):
        config(base, tmp_path, gradient_checkpointing=True, video=False)


def test_latents_in_a_folder_are_made_once(base, config, tmp_path, losses, monkeypatch):
    plain = config(base, tmp_path / "plain", loop={"log_every": 1})
    train(plain)
    kept = plain.model_copy(update={"output": tmp_path / "kept", "latents": tmp_path / "latents"})
    train(kept)
    assert losses(tmp_path / "kept") == losses(tmp_path / "plain")
    (folder,) = (tmp_path / "latents").iterdir()
    assert len(list(folder.rglob("latents-*"))) == 9  # three clips of three frames
    calls = []
    monkeypatch.setattr("posedance.pipeline.train.task.posterior", lambda *args: calls.append(args))
    task = VideoTask(kept.model_copy(update={"model": kept.model.model_copy(update={"noise_aug": 0.0})}))
    assert torch.isfinite(task.loss(0, 0, next(iter(task.batches(0, 1, range(1)))))[0])
    assert not calls


def test_settings_that_are_newer_than_a_checkpoint_were_off():
    old, new = {"loop": {"steps": 1}}, {"loop": {"steps": 1, "eight_bit": False}, "lora_rank": None}
    assert differences(old, new) == []
    assert differences(old, new | {"lora_rank": 4}) == ["lora_rank"]


def test_activations_are_counted_as_they_are(base, config, tmp_path):
    """Shapes on the meta device against the tensors that live in a real step."""

    def live_in(settings):
        task = VideoTask(settings)
        parameters = [p for _, p in task.trainable()]
        batch = next(iter(task.batches(0, 1, range(1))))
        with LiveBytes() as live:
            task.loss(0, 0, batch)[0].backward()
        return live.peak - sum(p.grad.nbytes for p in parameters if p.grad is not None)

    settings = config(base, tmp_path)
    empty = VideoTask(settings, meta_parts(settings.model))
    empty.trainable()
    whole, checkpointed = activation_bytes(empty)
    assert whole == pytest.approx(live_in(settings), rel=0.05)
    saving = settings.model_copy(update={"gradient_checkpointing": True})
    assert checkpointed == pytest.approx(live_in(saving), rel=0.05)
    assert checkpointed < 0.8 * whole


def test_memory_follows_from_what_learns_and_how(base, config, tmp_path):
    def empty(**changes):
        settings = config(base, tmp_path, **changes)
        task = VideoTask(settings, meta_parts(settings.model))
        return task, sum(p.numel() for _, p in task.trainable())

    def planned(**changes):
        task, learning = empty(**changes)
        return memory_plan(task), learning

    whole, learning = planned()
    assert (whole.gradients, whole.moments, whole.average) == (4 * learning, 8 * learning, 4 * learning)
    assert whole.copies == 0
    assert planned(loop={"eight_bit": True})[0].moments < 0.27 * whole.moments
    half, _ = planned(loop={"precision": "bf16"})
    assert half.copies > 0 and half.kept < whole.kept
    low, _ = planned(learn="all", lora_rank=2)
    assert low.gradients < 0.3 * whole.gradients and low.total(True) < whole.total(True)
    counts = [empty(learn=learn)[1] for learn in ("none", "to_out+to_v", "temporal", "all")]
    assert counts == sorted(counts) and len(set(counts)) == 4


def test_the_full_model_is_planned_without_weights(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no weights and no data here
    assert main(["train", "--dry-run", "--config", str(FULL)]) == 2  # the data is looked at
    assert "data/meta_info.json cannot be read" in capsys.readouterr().err
    (tmp_path / "drawn.yaml").write_text(FULL.read_text().replace("meta_info: data/meta_info.json, ", ""))
    assert main(["train", "--dry-run", "--config", "drawn.yaml"]) == 0
    text = capsys.readouterr().out
    assert "learning ControlNeXt 3,526,400, UNet 1,474,233,322 of 1,524,623,082 parameters" in text
    assert "UNet 6.10, ControlNeXt 0.01, VAE 0.39, image encoder 2.53" in text
    assert "AdamW 11.82" in text and "with it on" in text


def test_a_plan_tells_what_learns(base, config, tmp_path):
    assert "in LoRA weights of rank 4 beside" in plan(config(base, tmp_path, lora_rank=4))
    assert "UNet 0 of" in plan(config(base, tmp_path, learn="none"))


def test_a_plan_notes_poses_drawn_otherwise_than_the_models(base, config, tmp_path):
    settings = config(base, tmp_path)
    assert "note:" not in plan(settings)
    other = settings.model_copy(update={"data": settings.data.model_copy(update={"canvas": 48})})
    assert "drawn at data.canvas=48, but the model's users' at model.canvas=96" in plan(other)


def test_half_bodies_are_of_drawn_dancers_and_the_plan_tells_their_share(tmp_path):
    with pytest.raises(ValidationError, match=r"of drawn dancers: leave it out with data\.shards"):
        DataConfig(half_body=0.3, shards=tmp_path)
    assert DataConfig(half_body=0.3).spec().half_body == 0.3 and DataConfig().spec().half_body == 0
    assert describe_data(DataConfig(half_body=0.3)).endswith(", 30% of them half bodies")
    assert "half" not in describe_data(DataConfig())
    with pytest.raises(ValidationError, match=r"data\.elsewhere is of drawn dancers"):
        DataConfig(elsewhere=0.3, shards=tmp_path)
    assert DataConfig(elsewhere=0.4).spec().elsewhere == 0.4
    assert describe_data(DataConfig(elsewhere=0.4)).endswith(", 40% of the others seen elsewhere before")


def test_a_run_begun_before_there_were_half_bodies_goes_on():
    new = data_identity(DataConfig())
    old = {name: value for name, value in new.items() if name != "half_body"}
    assert differences({"data": old}, {"data": new}) == []
    assert differences({"data": old}, {"data": data_identity(DataConfig(half_body=0.3))}) == [
        "data.half_body"
    ]
