"""MP4 and MOV without their samples: all that a demuxer tells of them lies in the index.

Time stamps, durations and which frames are shown come from the index boxes; a demuxer hands the
samples on unread. So samples that read as zeros change nothing of it, and of a file of gigabytes
only the index is moved. (What FFmpeg tells of key frames may come from the samples: take it from
the index.)
"""

from __future__ import annotations

from bisect import bisect_right

from engine.storage.ranged import RangedReader


class SkimmingReader(RangedReader):
    """Reads the bytes as they are, until `skim` is called; from then on samples read as zeros.

    Samples are what lies in `mdat` boxes. They are found as reading gets there, so that fragments,
    whose indices lie between them, are passed once.
    """

    skimming = False
    _passed = 0
    """Where the first box begins that was not looked at yet."""
    _starts: list[int]
    _stops: list[int]

    def skim(self) -> None:
        """From now on give zeros for samples."""
        self.skimming = True
        self._starts, self._stops = [], []

    def read(self, size: int = -1) -> bytes:
        start = self.tell()
        stop = self.size_bytes if size < 0 else min(start + size, self.size_bytes)
        if not self.skimming or start >= stop:
            return super().read(size)
        self._look_up_to(stop)
        number = bisect_right(self._starts, start) - 1
        if number >= 0 and start < self._stops[number]:
            stop = min(stop, self._stops[number])
            self.seek(stop)
            return bytes(stop - start)
        if number + 1 < len(self._starts):
            stop = min(stop, self._starts[number + 1])
        return super().read(stop - start)

    def _look_up_to(self, place: int) -> None:
        """Look at the boxes that begin before `place`."""
        while self._passed < place:
            header = self.read_at(self._passed, 16)
            length, name = int.from_bytes(header[:4]), header[4:8]
            begin = self._passed + 8
            if length == 1:  # the length follows in 64 bits
                length, begin = int.from_bytes(header[8:]), begin + 8
            if len(header) < 8 or self._passed + length < begin:  # to the end, or no box
                length = self.size_bytes - self._passed
            if name == b"mdat":
                self._starts.append(begin)
                self._stops.append(min(self._passed + length, self.size_bytes))
            self._passed += length
