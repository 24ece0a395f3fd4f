"""Fixtures that every layer's tests share."""

import os
import signal
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it, before torch loads
# `make test` runs two files at a time: they share the processors, and torch reads this when it loads.
if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // int(processes))))
# A shell starts its background jobs with SIGINT ignored, and they hand that on to the runs that tests stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of numbers recorded from the published implementation."""
    folder = Path(os.environ.get("POSEDANCE_GOLDEN", SHARED / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}: set POSEDANCE_GOLDEN to a folder that holds it")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real driving videos and reference pictures."""
    folder = SHARED / "samples"
    if not folder.is_dir():
        pytest.skip(f"no sample videos at {folder}")
    return folder


NUMBER_BITS = 10
"""`numbered_frame` writes its number as this many bright or dark columns."""


def numbered_frame(number: int, width: int = 160, height: int = 96) -> np.ndarray:
    """uint8 [H, W, 3]: `number` in binary as grey columns that survive lossy coding."""
    columns = np.arange(width) * NUMBER_BITS // width
    grey = np.where((number >> columns) & 1, 210, 40).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey[None, :, None], (height, width, 3)))


@pytest.fixture(scope="session")
def read_number() -> Callable[[np.ndarray], int]:
    """The number that `make_video` wrote into a frame."""

    def read(image: np.ndarray) -> int:
        grey = image.mean(axis=(0, 2))
        centres = (np.arange(NUMBER_BITS) * 2 + 1) * image.shape[1] // (2 * NUMBER_BITS)
        return int(sum(1 << bit for bit, centre in enumerate(centres) if grey[centre] > 125))

    return read


@pytest.fixture(scope="session")
def numbers(read_number: Callable[[np.ndarray], int]) -> Callable[..., list[int]]:
    """The numbers of all frames that `read_frames` gives of a video by `make_video`: (path, clip, report)."""
    from posedance.stages.media.video import Clip, read_frames

    def read(path: Path, clip: Any = None, report: Any = None) -> list[int]:
        return [read_number(frame) for frame in read_frames(path, clip or Clip(), report)]

    return read


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """A function that writes a real video; frame k holds the number k (`read_number`).

    `pts` in units of `tick` are the time stamps (default: 0, 1, 2 ... at 1 / `fps`). `sound`, float32
    [samples], becomes a mono stream at `sound_rate`. `prepare` gets the stream before the first frame.
    """

    def make(
        path: Path,
        count: int = 30,
        fps: Fraction = Fraction(30),
        *,
        pts: Sequence[int] | None = None,
        tick: Fraction | None = None,
        size: tuple[int, int] = (160, 96),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        container: str | None = None,
        options: dict[str, str] | None = None,
        muxing: dict[str, str] | None = None,
        prepare: Callable[[Any], None] | None = None,
        draw: Callable[[int, int, int], np.ndarray] = numbered_frame,
        sound: np.ndarray | None = None,
        sound_rate: int = 48000,
        sound_codec: str = "aac",
    ) -> Path:
        with av.open(str(path), "w", format=container, container_options=muxing) as output:
            stream: Any = output.add_stream(codec, rate=fps, options=options or {"bf": "2", "g": "12"})
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = tick or 1 / fps
            if prepare is not None:
                prepare(stream)
            voice: Any = None
            if sound is not None:
                voice = output.add_stream(sound_codec, rate=sound_rate, layout="mono")
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(draw(index, *size), format="rgb24")
                frame = frame.reformat(format=pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
                frame.pts, frame.time_base = (pts[index] if pts else index), tick or 1 / fps
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if sound is not None:
                resampler = av.AudioResampler(
                    voice.codec_context.format.name,
                    "mono",
                    sound_rate,
                    voice.codec_context.frame_size or 1024,
                )
                block = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
                block.sample_rate, block.pts, block.time_base = sound_rate, 0, Fraction(1, sound_rate)
                for part in [*resampler.resample(block), *resampler.resample(None)]:
                    output.mux(voice.encode(part))
                output.mux(voice.encode(None))
        return path

    return make
