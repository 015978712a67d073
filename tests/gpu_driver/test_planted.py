"""The stand-in driver finds faults: each is planted here, and complained of."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import av
import pytest
import torch
from av.codec.hwaccel import HWAccel
from av.video.frame import CudaContext

from engine.errors import EncoderError
from engine.geometry import Size
from engine.gpu import encoder_frames, nvdec
from engine.gpu.encoder_frames import DeviceFrameSink
from engine.pixels.picture import FinishedPicture
from tests.engine.gpu.test_frames import on_device
from tests.gpu_driver.conftest import Driver
from tests.gpu_driver.test_decoding import a_clip
from tests.gpu_driver.test_encoding import CUDA, SIZE, an_encoder, written


def a_chunk(folder: Path, sink: type[DeviceFrameSink] = DeviceFrameSink) -> None:
    written(folder / "a.mp4", range(30), an_encoder(), sink(SIZE, CUDA))


def assert_complains(driver: Driver, of: str) -> None:
    driver.end()
    complaints = driver.complaints()
    assert any(of in complaint for complaint in complaints), complaints


def test_a_wrong_pitch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    slot = encoder_frames._slot

    def narrow(size: Size, device: torch.device) -> torch.Tensor:
        whole = slot(size, device)
        return whole.as_strided(whole.shape, (192, 1))

    monkeypatch.setattr(encoder_frames, "_slot", narrow)
    a_chunk(tmp_path)
    assert_complains(driver, "147 rows with a pitch of 192 bytes are not the 37632 bytes")


class FreesAtOnce(DeviceFrameSink):
    """No slot waits for its packet."""

    def frame(self, picture: FinishedPicture) -> av.VideoFrame:
        made = super().frame(picture)
        self._free.append(self._held.pop())
        return made

    def released(self, index: int) -> None:
        pass


class FreesTheOldest(DeviceFrameSink):
    """A packet frees the oldest slot, as if there were no B-frames."""

    def released(self, index: int) -> None:  # noqa: ARG002
        self._free.append(self._held.popleft())


@pytest.mark.parametrize("sink", [FreesAtOnce, FreesTheOldest])
def test_a_picture_reused_too_early(
    sink: type[DeviceFrameSink], tmp_path: Path, driver: Driver
) -> None:
    a_chunk(tmp_path, sink)
    assert_complains(driver, "was changed while the encoder held it")


def in_a_fresh_thread(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work).result(60)


def test_a_context_not_made_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Driver
) -> None:
    info = a_clip(tmp_path, 3)
    monkeypatch.setattr(driver.memory, "make_current", lambda: None)
    with pytest.raises(EncoderError):
        in_a_fresh_thread(lambda: a_chunk(tmp_path))
    assert_complains(driver, "no context")

    def decode() -> None:
        warnings: list[str] = []
        with on_device(info, "cuda:0", warnings.append) as reader:
            list(reader.surfaces(info.frame_pts))

    in_a_fresh_thread(decode)
    assert_complains(driver, "no context")


def test_a_context_of_ffmpegs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Driver
) -> None:
    own = cache(lambda index: CudaContext(index, primary_ctx=False, current_ctx=False))
    monkeypatch.setattr(encoder_frames, "_cuda_context", own)
    a_chunk(tmp_path)
    assert_complains(driver, "the memory belongs to another context")


def test_a_decoder_in_a_context_of_ffmpegs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Driver
) -> None:
    info = a_clip(tmp_path, 3)
    own = {"options": {"primary_ctx": "0", "current_ctx": "0"}}
    monkeypatch.setattr(nvdec, "HWAccel", lambda *given, **named: HWAccel(*given, **named | own))
    with on_device(info, "cuda:0", pytest.fail) as reader:
        list(reader.surfaces(info.frame_pts))
    assert_complains(driver, "torch: the memory belongs to another context")


def test_a_leak(tmp_path: Path, driver: Driver) -> None:
    sink = DeviceFrameSink(SIZE, CUDA)
    written(tmp_path / "a.mp4", range(4), an_encoder(), sink)
    assert_complains(driver, "memory")
    del sink
