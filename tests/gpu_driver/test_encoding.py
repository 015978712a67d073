"""FFmpeg's NVENC code on the stand-in driver: settings, pictures by both ways in, and joins."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as F
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from engine.geometry import Size
from engine.gpu.checks import encoder_input, encoding_refusal
from engine.gpu.encoder_frames import DeviceFrameSink
from engine.media.chunk_writer import ChunkWriter, EncodedChunk
from engine.media.encoders import Encoder, choose_encoder
from engine.media.frame_sink import FrameSink, HostFrameSink
from engine.media.inspect import read_chunk
from engine.media.join import join
from engine.pixels.picture import Picture
from tests.gpu_driver.conftest import Driver
from tests.media import needs_ffmpeg
from tests.witness import run, video_stream

SIZE, FPS = Size(162, 98), F(30000, 1001)
"""Whole macroblocks are larger than that."""
CUDA = torch.device("cuda:0")
LENGTHS = (40, 1, 2, 3, 13, 1, 1, 240, 5)

SINKS: dict[str, Callable[[Size], FrameSink]] = {
    "host": lambda _: HostFrameSink(),
    "device": lambda size: DeviceFrameSink(size, CUDA),
}


@cache
def noise() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, 2**19, np.uint8)


def picture(number: int, size: Size = SIZE) -> Picture:
    """Another one for each number, without two rows or columns alike."""
    samples = size.width * size.height * 3 // 2
    start = 37 * number
    return Picture(size, noise()[start : start + samples].reshape(-1, size.width).copy())


def an_encoder(**options: str) -> Encoder:
    return choose_encoder(SIZE, FPS, name="h264_nvenc", options=options, key_interval_s=F(1, 2))


def written(path: Path, numbers: range, encoder: Encoder, sink: FrameSink) -> EncodedChunk:
    with ChunkWriter(encoder, path, sink) as writer:
        for number in numbers:
            writer.write(picture(number, encoder.size))
    return writer.result


def decoded(path: Path) -> list[bytes]:
    """The pictures as FFmpeg's CPU decoder gives them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


@needs_ffmpeg
def test_chunks_of_all_lengths_by_both_ways_in_and_the_film_of_them(tmp_path: Path) -> None:
    encoder = an_encoder()
    borders = [sum(LENGTHS[:end]) for end in range(len(LENGTHS) + 1)]
    chunks = []
    for start, stop in pairwise(borders):
        made = {}
        for name, sink in SINKS.items():
            path = tmp_path / f"{start}.{name}.mp4"
            made[name] = written(path, range(start, stop), encoder, sink(SIZE))
        assert made["host"] == made["device"]
        assert (tmp_path / f"{start}.host.mp4").read_bytes() == path.read_bytes()
        chunks.append(read_chunk(path))
        assert decoded(path) == [picture(n).buffer.tobytes() for n in range(start, stop)]
        assert chunks[-1].key_frames == tuple(range(0, stop - start, encoder.key_interval))
    assert len({chunk.parameters.parameter_sets for chunk in chunks}) == 1
    film = tmp_path / "film.mp4"
    join(chunks, None, [], film, frame_count=borders[-1], sample_count=0, fps=FPS, size=SIZE,
         on_step=lambda: None)  # fmt: skip
    raw = run("ffmpeg", "-v", "error", "-i", film, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
    assert raw == b"".join(picture(n).buffer.tobytes() for n in range(borders[-1]))
    facts = video_stream(film)
    assert (facts["r_frame_rate"], facts["color_space"]) == ("30000/1001", "bt709")


@pytest.mark.parametrize(
    ("options", "slots"),
    [({}, 12), ({"bf": "0"}, 3), ({"bf": "3", "rc-lookahead": "32"}, 41)],
    ids=["bf 2", "bf 0", "look-ahead"],
)
def test_slots_are_as_many_as_nvenc_holds(
    options: dict[str, str], slots: int, tmp_path: Path, driver: Driver
) -> None:
    sink = DeviceFrameSink(SIZE, CUDA)
    written(tmp_path / "a.mp4", range(60), an_encoder(**options), sink)
    assert decoded(tmp_path / "a.mp4") == [picture(n).buffer.tobytes() for n in range(60)]
    assert len(sink._free) == slots and not sink._held
    lookahead = driver.records("encoder")[-1]["lookahead"]
    assert lookahead == options.get("rc-lookahead", "0")


def test_nvenc_is_opened_with_the_settings_that_were_decided(driver: Driver) -> None:
    choose_encoder(Size(1080, 1920), FPS, name="h264_nvenc")
    assert driver.records("encoder") == [
        {
            "codec": "h264", "size": "1080x1920", "aspect": "9:16", "fps": "30000/1001",
            "preset": "p5", "tuning": "1", "profile": "high", "gop": "100000", "interval": "3",
            "rc": "1", "cq": "21", "average": "0", "max": "0", "aq": "1", "temporal_aq": "0",
            "lookahead": "0", "no_scenecut": "0", "strict_gop": "1", "idr_period": "100000",
            "sets_in_stream": "1", "colour": "1/1/1", "full_range": "0",
        }
    ]  # fmt: skip


def test_what_is_asked_for_arrives(driver: Driver) -> None:
    choose_encoder(
        SIZE,
        F(25),
        name="h264_nvenc",
        quality=17.5,
        preset="p7",
        options={"bf": "1", "maxrate": "5M", "rc-lookahead": "16"},
    )
    told = driver.records("encoder")[0]
    wanted = {"fps": "25/1", "preset": "p7", "cq": "17.5", "max": "5000000", "interval": "2"}
    assert wanted.items() <= told.items()
    assert told["lookahead"] == "16" and told["no_scenecut"] == "1"
    choose_encoder(SIZE, FPS, name="hevc_nvenc")
    wanted = {"codec": "hevc", "profile": "main", "preset": "p5", "interval": "3", "cq": "23"}
    assert wanted.items() <= driver.records("encoder")[1].items()


def test_frames_on_the_device_are_found_to_work() -> None:
    encoder = choose_encoder(SIZE, FPS)
    assert (encoder.name, encoder.why) == ("h264_nvenc", "h264_nvenc opens")
    assert encoding_refusal(encoder, "cuda:0") is None
    _, sink, how = encoder_input(encoder, "cuda:0")
    assert isinstance(sink, DeviceFrameSink) and how == "encoded on cuda:0, no copy"
