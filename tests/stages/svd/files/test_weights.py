"""Weight files: the same weights from every format, nothing in a pickle runs, disagreements are listed."""

import errno
import json
import resource

import pytest
import torch
from safetensors.torch import save_file

from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import OutputError, WeightsError
from posedance.stages.svd.files.weights import find_weights, load_strict, read_weights, save_tensors


@pytest.fixture
def linear():
    return torch.nn.Linear(3, 2)


class Command:
    def __reduce__(self):
        return print, ("this must not run",)


def test_bin_and_safetensors_hold_the_same(linear, tmp_path):
    torch.save(linear.state_dict(), tmp_path / "a.bin")
    save_file(linear.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.bin", "a.safetensors"):
        other = torch.nn.Linear(3, 2)
        load_strict(other, read_weights(tmp_path / name), name)
        assert torch.equal(other.weight, linear.weight)


def test_weights_over_several_files(linear, tmp_path):
    save_file({"weight": linear.weight.detach()}, tmp_path / "model-1.safetensors")
    save_file({"bias": linear.bias.detach()}, tmp_path / "model-2.safetensors")
    index = {"weight_map": {"weight": "model-1.safetensors", "bias": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_weights(find_weights(tmp_path)).keys() == {"weight", "bias"}


def test_full_precision_is_found_before_fp16(tmp_path):
    for name in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights(tmp_path).name == name


def test_nothing_in_a_pickle_runs(tmp_path, capfd):
    torch.save({"weight": Command()}, tmp_path / "bad.bin")
    with pytest.raises(WeightsError, match="more than tensors"):
        read_weights(tmp_path / "bad.bin")
    assert "must not run" not in capfd.readouterr().out


@pytest.mark.parametrize("content", [{"state": {"weight": torch.zeros(1)}}, [torch.zeros(1)], torch.zeros(1)])
def test_other_than_a_plain_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.bin")
    with pytest.raises(WeightsError, match="plain state dict"):
        read_weights(tmp_path / "odd.bin")


@pytest.mark.parametrize("name", ["w.bin", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 torn"])
def test_files_that_are_no_weights(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_weights(tmp_path / name)


def test_a_file_of_an_old_torch_and_one_that_nests_its_state_dict(linear, tmp_path):
    state = linear.state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3, "best": 0.5}, tmp_path / "nested.ckpt")
    for name in ("old.pth", "nested.ckpt"):
        read = read_weights(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], state[key]) for key in state)


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="do not exist"):
        read_weights(tmp_path / "none.bin")


def test_no_room_for_tensors_is_known_as_such_and_leaves_nothing(linear, tmp_path):
    """A limit on the size of files stands for a full disk: EFBIG for ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OutputError, match=r"a\.safetensors.*too large.*space left") as caught:
            save_tensors(tmp_path / "a.safetensors", linear.state_dict())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())
    save_tensors(tmp_path / "a.safetensors", linear.state_dict(), {"step": "1"})
    assert torch.equal(read_weights(tmp_path / "a.safetensors")["weight"], linear.weight)


def test_published_layout_loads_strictly(tmp_path):
    torch.save(ControlNeXt().state_dict(), tmp_path / "controlnet.bin")
    model = ControlNeXt()
    load_strict(model, read_weights(tmp_path / "controlnet.bin"), "controlnet.bin")


def test_disagreement_is_listed(linear):
    with pytest.raises(WeightsError) as caught:
        load_strict(linear, {"weight": torch.zeros(2, 4), "wait": torch.zeros(2)}, "file")
    assert str(caught.value) == (
        "file does not fit Linear: 1 missing: bias; 1 unexpected: wait; "
        "1 of another shape: weight [2, 4] instead of [2, 3]"
    )


def test_many_keys_are_counted_by_their_first_part(linear):
    extra = {f"{part}.{i}.weight": torch.zeros(1) for part in ("vae", "unet") for i in range(7)}
    with pytest.raises(WeightsError) as caught:
        load_strict(linear, linear.state_dict() | extra, "file")
    message = str(caught.value)
    assert message.startswith("file does not fit Linear: 14 unexpected: unet.0.weight, unet.1.weight, ")
    assert message.endswith("vae.0.weight, and 6 of vae")


def test_position_ids_of_older_files_are_no_weights(linear):
    load_strict(
        linear, linear.state_dict() | {"vision_model.embeddings.position_ids": torch.arange(3)}, "file"
    )
