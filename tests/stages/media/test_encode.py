"""Videos that we write: exact times, true colours, sound in sync, the same bytes again, nothing torn."""

import os
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from posedance.stages.errors import OutputError, VideoError
from posedance.stages.media.encode import AudioSource, VideoWriter, side_by_side
from posedance.stages.media.video import Clip, clip_start, output_rate, probe, read_frames

NTSC = Fraction(30000, 1001)


def moving(count: int, width: int = 64, height: int = 48):
    """Frames with something to code: a gradient that drifts."""
    y, x = np.mgrid[:height, :width]
    for index in range(count):
        yield np.stack([(x * 3 + index * 5) % 256, (y * 4) % 256, (x + y + index) % 256], -1).astype(np.uint8)


def write(path: Path, frames, fps=Fraction(30), audio=None, **options) -> Path:
    frames = list(frames)
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, fps, audio, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_a_video_comes_back(tmp_path):
    frames = list(moving(40))
    path = write(tmp_path / "out.mp4", frames, crf=5)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    got = list(read_frames(path, Clip()))
    assert len(got) == 40
    for frame, expected in zip(got, frames, strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 6


def test_colours_survive(tmp_path):
    for colour in ((200, 60, 40), (30, 180, 60), (20, 40, 220), (255, 255, 255), (0, 0, 0)):
        path = write(tmp_path / "out.mp4", [np.full((64, 64, 3), colour, np.uint8)] * 3, crf=5)
        for frame in read_frames(path, Clip()):
            assert np.abs(frame[32, 32].astype(int) - colour).max() <= 4


def test_what_the_file_says_of_itself(tmp_path):
    path = write(tmp_path / "out.mp4", moving(20), NTSC)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        bt709, limited = 1, 1  # ITU-T H.273
        assert (context.color_primaries, context.color_trc, context.colorspace) == (bt709, bt709, bt709)
        assert context.color_range == limited
        assert stream.average_rate == NTSC
        assert not container.streams.audio


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_lossless_video_comes_back_to_the_bit(tmp_path, bit_depth):
    spread = np.arange(30, dtype=np.uint16) % 4
    frames = list(moving(30, 63, 47))
    if bit_depth == 10:
        frames = [4 * frame.astype(np.uint16) + extra for frame, extra in zip(frames, spread, strict=True)]
    path = write(tmp_path / "out.mkv", frames, NTSC, bit_depth=bit_depth, lossless=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
        kind = "rgb24" if bit_depth == 8 else "gbrp10le"
        for frame, expected in zip(container.decode(video=0), frames, strict=True):
            np.testing.assert_array_equal(frame.to_ndarray(format=kind), expected)
    info = probe(path)
    assert (info.width, info.height, info.fps, info.num_frames) == (63, 47, NTSC, 30)
    shown = list(read_frames(path, Clip()))
    assert np.abs(shown[7] - frames[7] / (4 if bit_depth == 10 else 1)).max() <= 1
    again = write(tmp_path / "again.mkv", frames, NTSC, bit_depth=bit_depth, lossless=True)
    assert path.read_bytes() == again.read_bytes()


def test_ten_bits_hold_what_eight_do_not(tmp_path):
    """A slow ramp: of 64 levels eight bits have 16."""
    ramp = np.repeat(np.arange(400, 464, dtype=np.uint16), 2)
    frames = [np.broadcast_to(ramp[None, :, None], (48, 128, 3))] * 3
    path = write(tmp_path / "out.mp4", frames, crf=1, bit_depth=10)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
        got = next(container.decode(video=0)).to_ndarray(format="gbrp10le")
    assert len(np.unique(got[24])) > 40
    assert np.abs(got[24].astype(int) - frames[0][24]).mean() < 3
    with pytest.raises(ValueError, match="expected uint16"):
        write(tmp_path / "out.mp4", moving(2), bit_depth=10)


@pytest.mark.parametrize(
    "fps", [NTSC, Fraction(24000, 1001), Fraction(15), Fraction(30000, 2002), Fraction(17, 3)]
)
def test_every_frame_has_its_exact_time(tmp_path, fps):
    path = write(tmp_path / "out.mp4", moving(100), fps, preset="ultrafast")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(p.pts * stream.time_base for p in container.demux(stream) if p.size)
        assert times == [k / fps for k in range(100)]
        assert stream.duration * stream.time_base == 100 / fps
    info = probe(path)
    assert (info.fps, info.num_frames) == (fps, 100)


def test_an_odd_size_grows_by_its_last_row_and_column(tmp_path):
    frames = [np.full((33, 47, 3), 180, np.uint8)] * 4
    path = write(tmp_path / "out.mp4", frames, crf=5)
    info = probe(path)
    assert (info.width, info.height) == (48, 34)
    for frame in read_frames(path, Clip()):
        assert np.abs(frame.astype(int) - 180).max() <= 3


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = list(moving(80, 160, 128))
    one = write(tmp_path / "one.mp4", frames).read_bytes()
    assert one == write(tmp_path / "two.mp4", frames).read_bytes()
    frames[40] = 255 - frames[40]
    assert one != write(tmp_path / "three.mp4", frames).read_bytes()


def test_smooth_frames_give_the_same_bytes_again_and_again(tmp_path):
    """With x264's macroblock tree some of them differ on a processor with AVX-512."""
    y, x = np.mgrid[:96, :64]
    waves = [
        np.stack([np.sin((x + 2 * k) / 9), np.cos((y - k) / 11), np.sin((x + y + 3 * k) / 7)], -1)
        for k in range(8)
    ]
    frames = [(127 + 100 * wave).astype(np.uint8) for wave in waves]
    assert len({write(tmp_path / "out.mp4", frames).read_bytes() for _ in range(30)}) == 1


class Stopped(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), KeyboardInterrupt(), Stopped(), FileNotFoundError("other.png")]
)
@pytest.mark.parametrize("before", [0, 25])
def test_an_interrupted_block_leaves_nothing(tmp_path, error, before):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older result")
    with pytest.raises(type(error)) as caught, VideoWriter(path, 64, 48, Fraction(30)) as writer:
        for frame in moving(before):
            writer.write(frame)
        raise error
    assert caught.value is error
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_bytes() == b"an older result"


def test_a_video_without_frames_is_an_error(tmp_path):
    with (
        pytest.raises(OutputError, match=r"no frame .*out\.mp4"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, NTSC),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame", [np.zeros((48, 63, 3), np.uint8), np.zeros((48, 64, 3), np.float32)])
def test_a_frame_of_another_kind_is_refused(tmp_path, frame):
    with (
        pytest.raises(ValueError, match=r"expected uint8 \[48, 64, 3\]"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, NTSC) as writer,
    ):
        writer.write(frame)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in [
        (tmp_path / "nowhere" / "out.mp4", "No such file"),
        (tmp_path / "file" / "out.mp4", "Not a directory"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(OutputError, match=reason) as caught:
            write(path, moving(3))
        assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write(tmp_path / "out.mp4", moving(3))


FULL_DISK = """
import resource, sys
from fractions import Fraction
import numpy as np
from posedance.stages.media.encode import VideoWriter
from posedance.stages.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
rng = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], 256, 256, Fraction(30), crf=1, preset="ultrafast") as writer:
        for _ in range(int(sys.argv[2])):
            writer.write(rng.integers(0, 255, (256, 256, 3), np.uint8))
except OutputError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("count", [1, 60])
def test_no_space_left_is_one_line_and_leaves_nothing(tmp_path, count):
    """A limit on the size of files stands for a full disk: the same calls fail, with EFBIG for ENOSPC."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "out.mp4"), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert "File too large" in done.stdout
    assert "out.mp4" in done.stdout
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_length(tmp_path, make_video):
    sound = np.random.default_rng(0).normal(0, 0.1, 48000 * 2)
    source = make_video(tmp_path / "in.mp4", 60, sound=sound)  # sound that ends long before the video
    frame = next(moving(1, 320, 240))
    with VideoWriter(tmp_path / "out.mp4", 320, 240, NTSC, AudioSource(source), preset="ultrafast") as writer:
        for _ in range(300):
            writer.write(frame)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(900):
            writer.write(frame)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 900 * frame.nbytes / 10


# Sound: a click and a white frame at the same moments, found again in the output.

FLASHES = range(10, 300, 45)


def flash(index: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 235 if index in FLASHES else 20, np.uint8)


def clicking(fps: Fraction, count: int, rate: int) -> np.ndarray:
    sound = np.zeros(round(count / fps * rate), np.float32)
    tone = 0.9 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    for index in FLASHES:
        start = round(index / fps * rate)
        if start + len(tone) < len(sound):
            sound[start : start + len(tone)] = tone
    return sound


def click_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        start = float(frames[0].pts * stream.time_base)
        assert start >= -1e-3
        sound = np.concatenate([frame.to_ndarray().reshape(-1, order="F") for frame in frames])
    loud = np.flatnonzero(np.abs(sound.astype(float)) > 0.3 * np.abs(sound.astype(float)).max())
    onsets = loud[np.diff(loud, prepend=-(10**9)) > stream.rate // 4]
    return [start + onset / stream.rate for onset in onsets]


def flash_times(path: Path) -> list[float]:
    fps = probe(path).fps
    return [float(index / fps) for index, frame in enumerate(read_frames(path, Clip())) if frame.mean() > 120]


def sound_end(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return max((p.pts + p.duration) * stream.time_base for p in container.demux(stream) if p.size)


SOURCES = {
    "aac in mp4": (".mp4", "aac", 48000, "aac"),
    "aac 44.1 in mov": (".mov", "aac", 44100, "aac"),
    "aac in mpegts": (".ts", "aac", 48000, "aac"),
    "mp2 in mpg": (".mpg", "mp2", 48000, "aac"),
    "ac3 in vob": (".vob", "ac3", 48000, "ac3"),
    "mp3 in mkv": (".mkv", "libmp3lame", 44100, "mp3float"),
    "mp3 in avi": (".avi", "libmp3lame", 44100, "mp3float"),
    "opus in mkv": (".mkv", "libopus", 48000, "opus"),
    "flac in mkv": (".mkv", "flac", 48000, "flac"),
    "pcm in mov": (".mov", "pcm_s16le", 48000, "aac"),
    "pcm at an odd rate": (".mkv", "pcm_s16le", 11000, "aac"),
}


@pytest.mark.parametrize("name", ["aac in mp4", "opus in mkv", "pcm at an odd rate"])
def test_the_sound_of_a_lossless_video_is_flac_in_sync(tmp_path, make_video, name):
    suffix, codec, rate, _ = SOURCES[name]
    sound, clip = clicking(NTSC, 180, rate), Clip("1.37", "3")
    path = make_video(
        tmp_path / f"in{suffix}", 180, NTSC, draw=flash, sound=sound, sound_rate=rate, sound_codec=codec
    )
    info = probe(path)
    audio = AudioSource(path, clip_start(info, clip))
    out = write(tmp_path / "out.mkv", read_frames(path, clip), NTSC, audio, lossless=True)
    with av.open(str(out)) as container:
        context = container.streams.audio[0].codec_context
        assert (context.name, context.format.name, context.sample_rate) == ("flac", "s32", rate)
    clicks, flashes = click_times(out), flash_times(out)
    assert len(clicks) == len(flashes) >= 2
    assert max(abs(a - b) for a, b in zip(clicks, flashes, strict=True)) < 0.005


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("clip", [Clip(), Clip("1.37", "3")], ids=["whole", "part"])
def test_sound_stays_in_sync(tmp_path, make_video, name, clip):
    suffix, codec, rate, written = SOURCES[name]
    sound = clicking(NTSC, 180, rate)
    path = make_video(
        tmp_path / f"in{suffix}", 180, NTSC, draw=flash, sound=sound, sound_rate=rate, sound_codec=codec
    )
    info = probe(path)
    assert info.has_audio
    audio = AudioSource(path, clip_start(info, clip))
    out = write(
        tmp_path / "out.mp4", read_frames(path, clip), output_rate(info, clip), audio, preset="ultrafast"
    )
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == written
        packet = next(p.duration * p.time_base for p in container.demux(audio=0) if p.size)
    clicks, flashes = click_times(out), flash_times(out)
    assert len(clicks) == len(flashes) >= 2
    limit = 0.03 if suffix == ".avi" else 0.005  # a frame is 0.033; avi cannot say that MP3 starts 0.025 late
    assert max(abs(a - b) for a, b in zip(clicks, flashes, strict=True)) < limit
    length = probe(out).duration
    assert length - packet - Fraction(1, 100) <= sound_end(out) <= length


def test_sound_stays_in_sync_over_a_stride_and_a_late_start_time(tmp_path, make_video):
    sound = clicking(NTSC, 180, 48000)
    path = make_video(tmp_path / "in.ts", 180, NTSC, draw=flash, sound=sound)
    with av.open(str(path), options={}) as container:
        assert container.start_time > 0
    info, clip = probe(path), Clip(start=1, stride=5)  # flashes are 45 apart: on the stride's frames or not
    first = round(clip_start(info, clip) * info.fps)
    clip = Clip(start=(first + (10 - first) % 5) / info.fps + Fraction(1, 1000), stride=5)
    audio = AudioSource(path, clip_start(info, clip))
    out = write(
        tmp_path / "out.mp4", read_frames(path, clip), output_rate(info, clip), audio, preset="ultrafast"
    )
    clicks, flashes = click_times(out), flash_times(out)
    assert len(clicks) == len(flashes) >= 2
    assert max(abs(a - b) for a, b in zip(clicks, flashes, strict=True)) < 0.005


def test_copied_sound_begins_clean(tmp_path, make_video):
    """A decoder needs the packet before the first: without it, a steady tone begins distorted."""
    rate = 48000
    tone = 0.5 * np.sin(np.arange(rate * 4) * 2 * np.pi * 440 / rate)
    path = make_video(tmp_path / "in.mp4", 120, sound=tone)
    for start in ("1.37", "2.011"):
        audio = AudioSource(path, Fraction(start))
        out = write(tmp_path / "out.mp4", moving(30), audio=audio, preset="ultrafast")
        with av.open(str(out)) as container:
            frames = list(container.decode(audio=0))
        sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        beginning = sound[: rate // 50]
        loudest = np.abs(beginning.reshape(8, -1)).max(1)  # of eight parts, each longer than a period
        assert np.abs(loudest - 0.5).max() < 0.05


def test_copied_sound_is_sought_not_read_from_the_beginning(tmp_path):
    read = Path("/proc/self/io")
    if not read.exists():
        pytest.skip("no /proc: bytes read cannot be counted")
    rate, seconds = 48000, 150
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (1, rate * seconds), np.int16)
    with av.open(str(tmp_path / "in.mka"), "w") as output:
        stream = output.add_stream("flac", rate=rate, layout="mono")
        whole = av.AudioFrame.from_ndarray(noise, "s16", "mono")
        whole.sample_rate, whole.pts, whole.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler("s16", "mono", rate, 4096)
        for part in [*resampler.resample(whole), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    frames = list(moving(10))

    def count() -> int:
        return int(read.read_text().split()[1])

    before = count()
    write(tmp_path / "out.mp4", frames, audio=AudioSource(tmp_path / "in.mka", Fraction(seconds - 5)))
    assert count() - before < (tmp_path / "in.mka").stat().st_size * 0.6


def test_sound_of_a_file_without_video(tmp_path):
    with av.open(str(tmp_path / "in.wav"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(clicking(NTSC, 120, 48000)[None], "fltp", "mono")
        frame.sample_rate = 48000
        resampler = av.AudioResampler("s16", "mono", 48000)
        for part in resampler.resample(frame):
            output.mux(stream.encode(part))
    frames = [flash(index, 64, 48) for index in range(120)]
    out = write(tmp_path / "out.mp4", frames, NTSC, AudioSource(tmp_path / "in.wav"))
    clicks, flashes = click_times(out), flash_times(out)
    assert len(clicks) == len(flashes) == 3
    assert max(abs(a - b) for a, b in zip(clicks, flashes, strict=True)) < 0.005


def test_sound_can_be_shorter(tmp_path, make_video):
    path = make_video(tmp_path / "in.mp4", 90, sound=np.zeros(48000 * 3))
    out = write(tmp_path / "out.mp4", moving(90), audio=AudioSource(path, Fraction(0), Fraction(1)))
    assert Fraction(97, 100) < sound_end(out) <= 1


def test_a_source_without_sound_gives_none(tmp_path, make_video):
    path = make_video(tmp_path / "in.mp4", 10)
    out = write(tmp_path / "out.mp4", moving(10), audio=AudioSource(path))
    assert not probe(out).has_audio


def test_a_clip_after_the_end_of_the_sound_has_none(tmp_path, make_video):
    path = make_video(tmp_path / "in.mp4", 90, sound=np.zeros(24000))
    out = write(tmp_path / "out.mp4", moving(30), audio=AudioSource(path, Fraction(2)))
    assert probe(out).num_frames == 30


def test_a_sound_source_that_cannot_be_read(tmp_path):
    (tmp_path / "in.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"in\.mp4"):
        write(tmp_path / "out.mp4", moving(3), audio=AudioSource(tmp_path / "in.mp4"))
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]


def test_side_by_side_scales_to_one_height():
    panels = [np.full(shape, level, np.uint8) for level, shape in ((50, (90, 60, 3)), (150, (30, 41, 3)))]
    row = side_by_side(panels, 60)
    assert row.shape == (60, 40 + 82, 3)
    assert (row[:, :40] == 50).all()
    assert (row[:, 40:] == 150).all()
    labelled = side_by_side(panels, 60, ["driving", "pose"])
    assert labelled.shape == row.shape
    assert labelled.max() > 200
    assert (panels[0] == 50).all()
    with pytest.raises(ValueError, match="2 panels and 1 labels"):
        side_by_side(panels, 60, ["driving"])
