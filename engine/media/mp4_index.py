"""Reads an MP4 or MOV without its samples: everything that a demuxer says is in the index.

Timestamps, durations and edit lists come from the index boxes; a demuxer passes the samples on
unread. So it says the same when samples read as zeros, and of a file of gigabytes only the index is
downloaded. (FFmpeg may take key frame flags from the samples: take them from the index.)
"""

from __future__ import annotations

from bisect import bisect_right

from engine.storage.ranged import RangedReader


class SkimmingReader(RangedReader):
    """Reads the bytes as they are until `skim` is called. From then on samples read as zeros.

    Samples are the content of `mdat` boxes. The boxes are found as reading gets to them, so a
    fragmented file, with an index before each `mdat`, is read once.
    """

    skimming = False
    _scanned_to = 0
    """Position of the first box that was not scanned yet."""
    _mdat_starts: list[int]
    _mdat_stops: list[int]

    def skim(self) -> None:
        """From now on, samples read as zeros."""
        self.skimming = True
        self._mdat_starts, self._mdat_stops = [], []

    def read(self, size: int = -1) -> bytes:
        """See `RangedReader`. A read ends at the border of a sample range; it may be short."""
        start = self.tell()
        stop = self.size_bytes if size < 0 else min(start + size, self.size_bytes)
        if not self.skimming or start >= stop:
            return super().read(size)
        self._scan_boxes(stop)
        number = bisect_right(self._mdat_starts, start) - 1
        if number >= 0 and start < self._mdat_stops[number]:
            stop = min(stop, self._mdat_stops[number])
            self.seek(stop)
            return bytes(stop - start)
        if number + 1 < len(self._mdat_starts):
            stop = min(stop, self._mdat_starts[number + 1])
        return super().read(stop - start)

    def _scan_boxes(self, stop: int) -> None:
        """Reads the headers of the boxes that begin before `stop`."""
        while self._scanned_to < stop:
            header = self.read_at(self._scanned_to, 16)
            length, name = int.from_bytes(header[:4]), header[4:8]
            content = self._scanned_to + 8
            if length == 1:  # the length follows in 64 bits
                length, content = int.from_bytes(header[8:]), content + 8
            if len(header) < 8 or self._scanned_to + length < content:  # up to the end, or no box
                length = self.size_bytes - self._scanned_to
            if name == b"mdat":
                self._mdat_starts.append(content)
                self._mdat_stops.append(min(self._scanned_to + length, self.size_bytes))
            self._scanned_to += length
