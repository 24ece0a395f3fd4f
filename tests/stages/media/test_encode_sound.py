"""Sound of encoded videos: in sync, beginning clean, and none where there is none."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from videos import moving, write_video

from posedance.stages.errors import VideoError
from posedance.stages.media.encode import AudioSource
from posedance.stages.media.video import Clip, clip_start, output_rate, probe, read_frames

NTSC = Fraction(30000, 1001)
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
    out = write_video(tmp_path / "out.mkv", read_frames(path, clip), NTSC, audio, lossless=True)
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
    out = write_video(
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
    out = write_video(
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
        out = write_video(tmp_path / "out.mp4", moving(30), audio=audio, preset="ultrafast")
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
    write_video(tmp_path / "out.mp4", frames, audio=AudioSource(tmp_path / "in.mka", Fraction(seconds - 5)))
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
    out = write_video(tmp_path / "out.mp4", frames, NTSC, AudioSource(tmp_path / "in.wav"))
    clicks, flashes = click_times(out), flash_times(out)
    assert len(clicks) == len(flashes) == 3
    assert max(abs(a - b) for a, b in zip(clicks, flashes, strict=True)) < 0.005


def test_sound_can_be_shorter(tmp_path, make_video):
    path = make_video(tmp_path / "in.mp4", 90, sound=np.zeros(48000 * 3))
    out = write_video(tmp_path / "out.mp4", moving(90), audio=AudioSource(path, Fraction(0), Fraction(1)))
    assert Fraction(97, 100) < sound_end(out) <= 1


def test_a_source_without_sound_gives_none(tmp_path, make_video):
    path = make_video(tmp_path / "in.mp4", 10)
    out = write_video(tmp_path / "out.mp4", moving(10), audio=AudioSource(path))
    assert not probe(out).has_audio


def test_a_clip_after_the_end_of_the_sound_has_none(tmp_path, make_video):
    path = make_video(tmp_path / "in.mp4", 90, sound=np.zeros(24000))
    out = write_video(tmp_path / "out.mp4", moving(30), audio=AudioSource(path, Fraction(2)))
    assert probe(out).num_frames == 30


def test_a_sound_source_that_cannot_be_read(tmp_path):
    (tmp_path / "in.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"in\.mp4"):
        write_video(tmp_path / "out.mp4", moving(3), audio=AudioSource(tmp_path / "in.mp4"))
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]
