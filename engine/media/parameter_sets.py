"""Where a sequence parameter set of H.264 or HEVC says that chroma lies.

FFmpeg does not tell whether a stream says it or the usual siting was taken.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.source import ChromaSiting

_LOCATIONS = (
    ChromaSiting.LEFT,
    ChromaSiting.CENTER,
    ChromaSiting.TOP_LEFT,
    ChromaSiting.TOP,
    ChromaSiting.BOTTOM_LEFT,
    ChromaSiting.BOTTOM,
)
"""By chroma_sample_loc_type (ITU-T H.273, 8.7)."""

_H264_SPS, _HEVC_SPS = 7, 33
_WITH_CHROMA_FORMAT = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
"""Profiles of H.264 whose parameter sets have a chroma format (ITU-T H.264, 7.3.2.1.1)."""


class _Bits:
    """Reads the bits of a NAL unit after its header. Raises IndexError at the end."""

    def __init__(self, unit: bytes) -> None:
        self._data = unit.replace(b"\0\0\3", b"\0\0")  # without emulation prevention
        self._at = 0

    def skip(self, count: int) -> None:
        self._at += count

    def take(self, count: int) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._data[at >> 3] >> (7 - (at & 7)) & 1
        self._at += count
        return value

    def flag(self) -> bool:
        return self.take(1) == 1

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.flag():
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def golombs(self, count: int) -> None:
        """Skips numbers, signed or not."""
        for _ in range(count):
            self.golomb()

    def signed(self) -> int:
        """A signed Exp-Golomb number."""
        number = self.golomb()
        return (number + 1) // 2 if number % 2 else -(number // 2)


def told_siting(codec: str, extradata: bytes) -> ChromaSiting | None:
    """The siting of 4:2:0 that the parameter sets in a stream's extradata tell; None without one.

    `codec`: `h264` or `hevc`. `extradata` is an `avcC` or `hvcC` box, or units with start codes.
    """
    read = _h264_siting if codec == "h264" else _hevc_siting
    try:
        return next((read(unit) for unit in _parameter_sets(codec, extradata)), None)
    except IndexError:
        return None


def _parameter_sets(codec: str, extradata: bytes) -> Iterator[bytes]:
    """Sequence parameter sets, without the headers of their units."""
    if extradata[:1] != b"\1":
        units = iter(extradata.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:])
    else:
        units = _h264_units(extradata) if codec == "h264" else _hevc_units(extradata)
    for unit in units:
        if codec == "h264" and unit[0] & 31 == _H264_SPS:
            yield unit[1:]
        if codec == "hevc" and unit[0] >> 1 & 63 == _HEVC_SPS:
            yield unit[2:]


def _h264_units(avcc: bytes) -> Iterator[bytes]:
    return _sized_units(avcc, 6, avcc[5] & 31)


def _hevc_units(hvcc: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(hvcc[22]):
        count = int.from_bytes(hvcc[at + 1 : at + 3])
        units = list(_sized_units(hvcc, at + 3, count))
        yield from units
        at += 3 + sum(2 + len(unit) for unit in units)


def _sized_units(data: bytes, at: int, count: int) -> Iterator[bytes]:
    for _ in range(count):
        size = data[at] << 8 | data[at + 1]
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def _h264_siting(unit: bytes) -> ChromaSiting | None:
    """ITU-T H.264, 7.3.2.1.1."""
    bits = _Bits(unit)
    profile = bits.take(8)
    bits.skip(16)
    bits.golomb()
    if profile in _WITH_CHROMA_FORMAT:
        chroma_format = bits.golomb()
        bits.skip(1 if chroma_format == 3 else 0)
        bits.golombs(2)
        bits.skip(1)
        if bits.flag():
            for index in range(12 if chroma_format == 3 else 8):
                if bits.flag():
                    _skip_h264_scaling_list(bits, 16 if index < 6 else 64)
    bits.golomb()
    order_type = bits.golomb()
    if order_type == 0:
        bits.golomb()
    elif order_type == 1:
        bits.skip(1)
        bits.golombs(2)
        bits.golombs(bits.golomb())
    bits.golomb()
    bits.skip(1)
    bits.golombs(2)
    if not bits.flag():  # fields
        bits.skip(1)
    bits.skip(1)
    if bits.flag():  # cropped
        bits.golombs(4)
    return _siting_of_vui(bits) if bits.flag() else None


def _skip_h264_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _hevc_siting(unit: bytes) -> ChromaSiting | None:
    """ITU-T H.265, 7.3.2.2.1."""
    bits = _Bits(unit)
    bits.skip(4)
    sub_layers = bits.take(3)
    bits.skip(1)
    _skip_profile_tier_level(bits, sub_layers)
    bits.golomb()
    if bits.golomb() == 3:
        bits.skip(1)
    bits.golombs(2)
    if bits.flag():  # cropped
        bits.golombs(4)
    bits.golombs(2)
    order_bits = bits.golomb() + 4
    bits.golombs(3 * (sub_layers + 1 if bits.flag() else 1))
    bits.golombs(6)
    if bits.flag() and bits.flag():
        _skip_hevc_scaling_lists(bits)
    bits.skip(2)
    if bits.flag():  # PCM
        bits.skip(8)
        bits.golombs(2)
        bits.skip(1)
    _skip_reference_sets(bits)
    if bits.flag():  # long-term references
        bits.skip(bits.golomb() * (order_bits + 1))
    bits.skip(2)
    return _siting_of_vui(bits) if bits.flag() else None


def _skip_profile_tier_level(bits: _Bits, sub_layers: int) -> None:
    bits.skip(96)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    bits.skip(2 * (8 - sub_layers) if sub_layers else 0)
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


def _skip_hevc_scaling_lists(bits: _Bits) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if bits.flag():
                bits.golombs(min(64, 16 << 2 * size) + (1 if size > 1 else 0))
            else:
                bits.golomb()


def _skip_reference_sets(bits: _Bits) -> None:
    pictures = 0
    for index in range(bits.golomb()):
        if index and bits.flag():  # as the one before, with changes
            bits.skip(1)
            bits.golomb()
            pictures = sum(bits.flag() or bits.flag() for _ in range(pictures + 1))
            continue
        pictures = bits.golomb() + bits.golomb()
        for _ in range(pictures):
            bits.golomb()
            bits.skip(1)


def _siting_of_vui(bits: _Bits) -> ChromaSiting | None:
    """The beginning of a VUI, which both standards share (Annex E)."""
    if bits.flag() and bits.take(8) == 255:  # aspect ratio
        bits.skip(32)
    if bits.flag():  # overscan
        bits.skip(1)
    if bits.flag():  # video signal
        bits.skip(4)
        bits.skip(24 if bits.flag() else 0)
    if not bits.flag():
        return None
    location = bits.golomb()
    return _LOCATIONS[location] if location < len(_LOCATIONS) else None
