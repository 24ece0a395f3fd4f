"""LoRA weights at the command line: they change the video, its keys and its record, and nothing else."""

import json
from pathlib import Path

import pytest
import torch
from helpers import add_dance, add_picture, made_at
from safetensors.torch import save_file

from posedance.pipeline.animate.graph import step_keys
from posedance.pipeline.animate.tools import Tools
from posedance.pipeline.cli import main
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.models import open_generator
from posedance.stages.errors import WeightsError
from posedance.stages.svd.files.lora import has_lora

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, its keypoints, a dance of 3 frames, and LoRA weights for tiny-random."""
    folder = tmp_path_factory.mktemp("lora")
    add_dance(folder, "dance", 2, 3)
    add_picture(folder, "ref", 6)
    torch.manual_seed(0)
    state = {f"{LAYER}.lora_A.weight": torch.randn(2, 32), f"{LAYER}.lora_B.weight": torch.randn(32, 2)}
    save_file(state, folder / "lora.safetensors")
    return folder


def run(inputs: Path, output: Path, *words: object) -> int:
    given = ["--pose", inputs / "dance.npz", "--reference", inputs / "ref.png", "--output", output]
    options = ["--model", "tiny-random", "--steps", "1", *given, *words]
    return main(["animate", *map(str, options)])


def test_it_changes_the_latents_and_what_follows_and_is_recorded(inputs: Path, tmp_path: Path) -> None:
    lora, output = inputs / "lora.safetensors", tmp_path / "out"

    def redone(*words: object) -> set[str]:
        before = made_at(output) if output.exists() else {}
        assert run(inputs, output, *words) == 0
        return {step for step, at in made_at(output).items() if before.get(step) != at}

    redone()
    plain = (output / "result.mp4").read_bytes()
    sampled = {"latents", "result", "comparison"}
    assert redone("--lora", lora) == sampled
    assert (output / "result.mp4").read_bytes() != plain
    assert str(lora) in json.loads((output / "environment.json").read_text())["weights"]
    assert redone("--lora", lora, "--lora-scale", "0.5") == sampled
    assert redone("--config", output / "config.yaml") == set(), "config.yaml repeats the job"
    assert redone() == sampled
    assert (output / "result.mp4").read_bytes() == plain


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lora", "ref.png"], "ref.png is no readable weight file"),
        (["--lora", "none.safetensors"], "there is no file"),
        (["--lora", "vae.safetensors"], "holds no LoRA weights for UNetSpatioTemporalConditionModel"),
        (["--lora", "wide.safetensors"], f"{LAYER} is of another shape"),
        (["--lora-scale", "0.5"], "name them with --lora"),
    ],
)
def test_a_wrong_file_is_one_line(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    save_file({"decoder.conv_in.weight": torch.zeros(2, 2)}, inputs / "vae.safetensors")
    wide = {f"{LAYER}.lora_A.weight": torch.zeros(2, 320), f"{LAYER}.lora_B.weight": torch.zeros(320, 2)}
    save_file(wide, inputs / "wide.safetensors")
    named = [inputs / word if "." in word and not word.replace(".", "").isdigit() else word for word in words]
    assert run(inputs, tmp_path / "out", *named) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and expected in last


def test_a_batch_shares_what_lora_does_not_change(inputs: Path) -> None:
    plain = AnimateConfig(pose=inputs / "dance.npz", reference=inputs / "ref.png", model="tiny-random")
    worn = plain.model_copy(update={"lora": inputs / "lora.safetensors"})
    one, other = step_keys(plain), step_keys(worn)
    assert {step for step in one if one[step] != other[step]} == {"latents", "result", "comparison"}
    assert has_lora(open_generator(worn).unet) and not has_lora(open_generator(plain).unet)


def test_lora_weights_are_swapped_without_opening_the_model_anew(inputs: Path) -> None:
    """To the same bits, and back; weights that cannot be put on leave no half-changed model behind."""
    plain = AnimateConfig(pose=inputs / "dance.npz", reference=inputs / "ref.png", model="tiny-random")
    worn = plain.model_copy(update={"lora": inputs / "lora.safetensors"})
    lighter = worn.model_copy(update={"lora_scale": 0.5})
    broken = worn.model_copy(update={"lora": inputs / "ref.png"})
    tools = Tools()
    first = tools.generator(plain)
    for config in (worn, lighter, plain, worn, plain):
        assert tools.generator(config) is first
        assert same_weights(first.unet, open_generator(config).unet)
    with pytest.raises(WeightsError, match=r"ref.png is no readable weight file"):
        tools.generator(broken)
    assert same_weights(tools.generator(plain).unet, open_generator(plain).unet)
    tools.close()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two modules hold the same numbers under the same names, and scale LoRA weights alike."""
    mine, theirs = one.state_dict(), other.state_dict()
    return (
        mine.keys() == theirs.keys()
        and all(torch.equal(mine[key], theirs[key]) for key in mine)
        and scales_of(one) == scales_of(other)
    )


def scales_of(module: torch.nn.Module) -> list[object]:
    """The scales of the LoRA weights of each layer."""
    return [dict(part.scaling) for part in module.modules() if hasattr(part, "scaling")]  # pyright: ignore


def test_a_window_that_the_model_does_not_know_is_warned_about(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, warned in ((["--window.size", "6"], True), (["--window.size", "8"], False), ([], False)):
        assert run(inputs, tmp_path / "out", "--dry-run", *words) == 0
        said = capsys.readouterr().out
        assert ("windows of 6 frames: tiny-random was trained with 8" in said) == warned
    assert run(inputs, tmp_path / "out", "--window.size", "6") == 0
    assert capsys.readouterr().err.count("was trained with 8") == 1
