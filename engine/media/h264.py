"""H.264 packets as MP4 stores them: NAL units that each begin with their length in four bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LENGTH_BYTES = 4

_SLICE, _IDR_SLICE, _SEI = 1, 5, 6
"""Types of the NAL units that hold a picture (ITU-T H.264, table 7-1)."""


def is_idr(packet: bytes) -> bool:
    """Whether decoding can begin at the packet: its picture is an IDR."""
    types = (unit[0] & 31 for unit in _units(packet) if unit)
    return next((kind == _IDR_SLICE for kind in types if kind in (_SLICE, _IDR_SLICE)), False)


def x264_version(packet: bytes) -> bytes:
    """The unit in which x264 tells its version, as it stands in the packet; empty without one.

    It comes in the first packet of a stream only. FFmpeg's decoder needs it for 4:4:4, which old
    versions of x264 coded in another way.
    """
    if packet.startswith((b"\0\0\0\1", b"\0\0\1")):
        units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
        return next((b"\0\0\0\1" + unit for unit in units if _tells_x264(unit)), b"")
    return _with_lengths([unit for unit in _units(packet) if _tells_x264(unit)][:1])


def _tells_x264(unit: bytes) -> bool:
    return bool(unit) and unit[0] & 31 == _SEI and b"x264 - core" in unit


def has_usual_lengths(extradata: bytes) -> bool:
    """Whether a stream's extradata is an `avcC` box whose packets have lengths of four bytes."""
    return len(extradata) >= 7 and extradata[0] == 1 and extradata[4] & 3 == LENGTH_BYTES - 1


def parameter_sets(avcc: bytes) -> bytes:
    """SPS and PPS of an `avcC` box, as units that can stand in front of a packet's own."""
    units, at = [], 5
    for mask in (31, 255):  # a count of SPS in five bits, then one of PPS in eight
        count, at = avcc[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(avcc[at : at + 2], "big")
            units.append(avcc[at + 2 : at + 2 + size])
            at += 2 + size
    return _with_lengths(units)


def from_start_codes(packet: bytes) -> bytes:
    """A packet whose units are parted by start codes, as an encoder gives it, as MP4 stores it."""
    units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return _with_lengths(unit for unit in units if unit)


def _units(packet: bytes) -> Iterator[bytes]:
    at = 0
    while at + LENGTH_BYTES <= len(packet):
        size = int.from_bytes(packet[at : at + LENGTH_BYTES], "big")
        yield packet[at + LENGTH_BYTES : at + LENGTH_BYTES + size]
        at += LENGTH_BYTES + size


def _with_lengths(units: Iterable[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(LENGTH_BYTES, "big") + unit for unit in units)
