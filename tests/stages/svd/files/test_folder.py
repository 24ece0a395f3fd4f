"""What `svd-xt-1.1` takes: every form in which the base and the published weights come, at small size."""

import json
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import WeightsError
from posedance.stages.models import load_generator, save_generator
from posedance.stages.svd.files.base import find_base
from posedance.stages.svd.files.norms import norm_groups, set_norm_groups
from posedance.stages.svd.files.tiny import tiny_random

KIJAI = "controlnext-svd_v2-{}.safetensors"


def load(published, base="svd", unet="unet.bin", controlnext="controlnet.bin"):
    return load_generator(
        "svd-xt-1.1",
        base=published / base if isinstance(base, str) else base,
        controlnext=published / controlnext,
        unet=published / unet,
    )


def same_up_to_half(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x.half(), y.half()) for x, y in pairs)


def test_published_files_make_a_video(published):
    generator = load(published)
    assert generator.defaults.window_size == 24
    settings = replace(generator.settings(), steps=1)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    latents = generator.denoise(pixels[0], pixels[1:], settings)
    assert len(list(generator.decode(latents, settings))) == 2


@pytest.mark.parametrize("unet", [KIJAI.format("unet-fp16"), KIJAI.format("unet-fp16_converted")])
def test_the_fp16_files_hold_the_same_rounded_and_nothing_else(published, unet):
    full = load(published)
    half = load(published, unet=unet, controlnext=KIJAI.format("controlnet-fp16"))
    assert half.unet.dtype == half.controlnext.dtype == torch.float32
    assert same_up_to_half(full.unet, half.unet) and same_up_to_half(full.controlnext, half.controlnext)


def test_a_base_with_only_the_fp16_variant(published):
    full, half = load(published), load(published, base="svd-fp16")
    assert same_up_to_half(full.vae, half.vae) and same_up_to_half(full.image_encoder, half.image_encoder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub without network; `hub / "acme/svd"` is where a snapshot of that id goes."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "models--acme--svd"


def test_a_base_from_the_hub(published, hub):
    (hub / "refs").mkdir(parents=True)
    (hub / "refs/main").write_text("0" * 40)
    shutil.copytree(published / "svd", hub / "snapshots" / ("0" * 40))
    generator = load_generator(
        "svd-xt-1.1", base="acme/svd", controlnext=published / "controlnet.bin", unet=published / "unet.bin"
    )
    assert same_up_to_half(generator.vae, load(published).vae)


@pytest.mark.parametrize("name", ["acme/svd", "nowhere", "no/such/place"])
def test_a_base_that_is_nowhere(published, hub, name):
    with pytest.raises(WeightsError, match=r"is no folder and cannot be had from the hub") as error:
        load_generator(
            "svd-xt-1.1", base=name, controlnext=published / "controlnet.bin", unet=published / "unet.bin"
        )
    assert "\n" not in str(error.value)


class Gate(BaseHTTPRequestHandler):
    """A hub that shows what a model is and keeps its files from those who have not accepted its licence."""

    def do_GET(self):
        if "/api/models/" in self.path:
            file = {"type": "file", "path": "vae/config.json", "oid": "0" * 40, "size": 2}
            model = {"id": "acme/svd", "sha": "0" * 40, "siblings": [{"rfilename": file["path"]}]}
            told = json.dumps([file] if "/tree/" in self.path else model)
            self.answer(200, {"Content-Type": "application/json"}, told.encode())
        else:
            self.answer(403, {"X-Error-Code": "GatedRepo"}, b"")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, code, headers, body):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_gated_base_asks_to_accept_its_licence(hub, monkeypatch):
    import huggingface_hub.constants

    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            huggingface_hub.constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}",
        )
        with pytest.raises(
            WeightsError, match=r"accept it at https://huggingface.co/acme/svd.*log in"
        ) as error:
            find_base("acme/svd")
        server.shutdown()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inner", [False, True], ids=["the whole folder", "the network's folder"])
def test_networks_of_our_own_training(published, tmp_path, inner):
    """Their configs and their record count, which no state dict tells."""
    trained = replace(
        tiny_random(seed=3),
        controlnext=ControlNeXt(control_channels=32, stem_padding=1),
        defaults=replace(tiny_random().defaults, window_size=16),
        control_strength=1.0,
    )
    set_norm_groups(trained.unet, 8)
    save_generator(trained, tmp_path)
    generator = load(
        published,
        unet=tmp_path / "unet" if inner else tmp_path,
        controlnext=tmp_path / "controlnext" if inner else tmp_path,
    )
    assert same_up_to_half(generator.unet, trained.unet) and norm_groups(generator.unet) == 8
    assert generator.controlnext.config["stem_padding"] == 1
    assert (generator.control_strength, generator.defaults.window_size) == (1.0, 16)
    assert same_up_to_half(generator.vae, load(published).vae)


def test_exchanged_files_are_refused_with_their_keys(published):
    with pytest.raises(WeightsError, match=r"controlnet.bin does not fit UNet.* missing: .* unexpected: "):
        load(published, unet="controlnet.bin")
    with pytest.raises(WeightsError, match=r"unet.bin does not fit ControlNeXt.* missing: .* unexpected: "):
        load(published, controlnext="unet.bin")


def test_version_1_is_refused_by_name(published, tmp_path):
    torch.save(ControlNeXt(control_channels=1280).state_dict(), tmp_path / "controlnet.bin")
    with pytest.raises(WeightsError, match="ControlNeXt-SVD v1"):
        load(published, controlnext=tmp_path / "controlnet.bin")


@pytest.mark.parametrize("original", [False, True], ids=["our names", "original names"])
def test_every_key_of_the_unet_is_accounted_for(published, tmp_path, original):
    from safetensors.torch import load_file, save_file

    state = load_file(published / KIJAI.format("unet-fp16_converted" if original else "unet-fp16"))
    first = "input_blocks.0.0" if original else "conv_in"
    state.pop(f"{first}.bias")
    state[f"{'out.0' if original else 'conv_norm_out'}.weight"] = torch.zeros(3)
    state["model_ema.decay"] = torch.zeros(1)
    save_file(state, tmp_path / "unet.safetensors")
    with pytest.raises(WeightsError) as error:
        load(published, unet=tmp_path / "unet.safetensors")
    for part in (
        "1 missing: conv_in.bias",
        "1 unexpected: model_ema.decay",
        "1 of another shape: conv_norm_out.weight [3] instead of [320]",
    ):
        assert part in str(error.value)


def test_incomplete_base_names_the_file(published, tmp_path):
    with pytest.raises(WeightsError, match=r"config.json is missing"):
        load(published, base=tmp_path)
