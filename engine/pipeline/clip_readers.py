"""The open files behind a sequence of chunks: one reader per clip, and where it decodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import groupby

from engine.errors import Cancelled, DecodeError
from engine.media.video_decoder import DeviceDecoder
from engine.media.video_reader import FrameReader
from engine.storage.cached_store import cached
from engine.storage.objects import ObjectReader
from engine.timeline.plan import Layer, PlannedClip
from engine.upscale.stage import FrameCrop


class ClipReaders:
    """Readers that stay open from chunk to chunk, so that a long GOP is decoded once.

    Threads may share it, but only one at a time may read a clip.
    """

    def __init__(
        self,
        frames_on: Callable[[PlannedClip], str | None],
        *,
        strict: bool,
        store: ObjectReader | None,
    ) -> None:
        """`frames_on` tells the device that a clip's stage prefers its frames on, if any."""
        self._frames_on = frames_on
        self._strict = strict
        self._store = cached(store)
        self._lock = threading.Lock()
        """Guards `_readers`."""
        self._readers: dict[int, FrameReader] = {}
        self._warn: dict[int, Callable[[str], None]] = {}
        """What is told of the warnings of a clip's reader now."""
        self._refusals: dict[int, str] = {}
        """Why clips are not decoded on the device of their stage."""
        self._decodable: set[tuple[str, str]] = set()
        """Fingerprints of sources that a device has decoded in a trial, with the device."""
        self._abandoned = threading.Event()

    def decoded_frames(self, clip: PlannedClip) -> int:
        """Pictures that the clip's reader has decoded, wanted or not, since it was opened."""
        reader = self._readers.get(clip.index)
        return reader.decoded_frames if reader is not None else 0

    def crops(self, layer: Layer, on_warning: Callable[[str], None]) -> Iterator[FrameCrop]:
        """The layer's frames with their rectangles. A frame shown several times is decoded once.

        The file is opened at the first. Raises `DecodeError` that names the clip, and `Cancelled`
        once the readers are abandoned.
        """
        reader = self._reader(layer.clip, on_warning)
        shown = [(pts, list(rows)) for pts, rows in groupby(range(len(layer.pts)), layer.pts.item)]
        frames = reader.surfaces([pts for pts, _ in shown])
        try:
            for frame, (_, rows) in zip(frames, shown, strict=True):
                for row in rows:
                    yield FrameCrop(frame, layer.rects[row])
        except DecodeError as error:
            raise error.of_clip(layer.clip.index) from error

    def route(self, clip: PlannedClip) -> str | None:
        """Where the clip's frames are decoded; if on the CPU, why. None where no device is meant
        to."""
        reader, index = self._readers[clip.index], clip.index
        if reader.device is not None:
            return f"clips[{index}]: decoded by {reader.decoder}, frames stay on {reader.device}"
        why = reader.device_failure or self._refusals.get(index)
        return why and f"clips[{index}]: decoded on the CPU ({why}), one upload per frame"

    def close_all_but(self, clips: set[int]) -> None:
        """Closes the readers of all other clips, by index. Nothing may be reading these."""
        with self._lock:
            for index in self._readers.keys() - clips:
                self._readers.pop(index).close()

    def abandon(self) -> None:
        """Makes every reader stop at its next packet."""
        self._abandoned.set()

    def check(self) -> None:
        """Raises `Cancelled` once the readers are abandoned."""
        if self._abandoned.is_set():
            raise Cancelled

    def _reader(self, clip: PlannedClip, on_warning: Callable[[str], None]) -> FrameReader:
        self._warn[clip.index] = lambda text: on_warning(f"clips[{clip.index}]: {text}")
        if clip.index not in self._readers:
            device = self._frames_on(clip)
            reader = FrameReader(
                clip.source,
                strict=self._strict,
                on_warning=lambda text: self._warn[clip.index](text),
                on_step=self.check,
                device=None if device is None else self._device_decoder(clip, device),
                store=self._store,
            )
            with self._lock:
                self._readers[clip.index] = reader
        return self._readers[clip.index]

    def _device_decoder(self, clip: PlannedClip, device: str) -> DeviceDecoder | None:
        """What decodes the clip on the device. None where the CPU must."""
        from engine.gpu.checks import decoding_refusal
        from engine.gpu.nvdec import SurfaceDecoder

        tried = clip.source.fingerprint, device
        if tried not in self._decodable:
            refusal = decoding_refusal(
                clip.source, device, strict=self._strict, store=self._store, on_step=self.check
            )
            if refusal is not None:
                self._refusals[clip.index] = refusal
                return None
            self._decodable.add(tried)
        return SurfaceDecoder(device)
