"""The official Real-ESRGAN models: what they are called, where their files are, what they cost.

Values only. It knows no torch, no folder and no web server. Names, tags and files are those of
https://github.com/xinntao/Real-ESRGAN/releases; sizes and hashes are of the release files.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import UpscalerError


@dataclass(frozen=True, slots=True)
class Model:
    """One official model and its release file."""

    name: str
    """What the user types."""
    release: str
    """The tag of the release that carries the file."""
    file_name: str
    size_bytes: int
    sha256: str
    scale: int
    """Output pixels per input pixel, along each side."""
    flops_per_pixel: int
    """Floating point operations per input pixel; a multiply-add counts as two."""
    moved_bytes_per_pixel: int
    """Bytes per input pixel, in half precision, that are read and written beside convolutions: for
    biases, activations, concatenations, residuals and enlargements, each a pass of its own. The
    bias and PReLU of the compact networks are one pass."""
    companion: str | None = None
    """The model of the same shape that denoises less. It is blended in for a strength below 1."""


GENERAL = Model(
    name="realesr-general-x4v3",
    release="v0.2.5.0",
    file_name="realesr-general-x4v3.pth",
    size_bytes=4_885_111,
    sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
    scale=4,
    flops_per_pixel=2_418_048,
    moved_bytes_per_pixel=8_448,
    companion="realesr-general-wdn-x4v3",
)
GENERAL_WDN = Model(
    name="realesr-general-wdn-x4v3",
    release="v0.2.5.0",
    file_name="realesr-general-wdn-x4v3.pth",
    size_bytes=4_885_111,
    sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
    scale=4,
    flops_per_pixel=2_418_048,
    moved_bytes_per_pixel=8_448,
)
ANIME_VIDEO = Model(
    name="realesr-animevideov3",
    release="v0.2.5.0",
    file_name="realesr-animevideov3.pth",
    size_bytes=2_504_012,
    sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
    scale=4,
    flops_per_pixel=1_238_400,
    moved_bytes_per_pixel=4_352,
)
X4PLUS = Model(
    name="realesrgan-x4plus",
    release="v0.1.0",
    file_name="RealESRGAN_x4plus.pth",
    size_bytes=67_040_989,
    sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
    scale=4,
    flops_per_pixel=35_853_696,
    moved_bytes_per_pixel=328_000,
)
X2PLUS = Model(
    name="realesrgan-x2plus",
    release="v0.2.1",
    file_name="RealESRGAN_x2plus.pth",
    size_bytes=67_061_725,
    sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
    scale=2,
    flops_per_pixel=8_966_016,
    moved_bytes_per_pixel=82_000,
)
X4PLUS_ANIME = Model(
    name="realesrgan-x4plus-anime-6b",
    release="v0.2.2.4",
    file_name="RealESRGAN_x4plus_anime_6B.pth",
    size_bytes=17_938_799,
    sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
    scale=4,
    flops_per_pixel=11_412_864,
    moved_bytes_per_pixel=102_000,
)

MODELS = {
    model.name: model for model in (GENERAL, GENERAL_WDN, ANIME_VIDEO, X4PLUS, X2PLUS, X4PLUS_ANIME)
}
"""Every official model by its name."""


def model_named(name: str) -> Model:
    """The official model of that name.

    Raises `UpscalerError`, which lists the names there are.
    """
    try:
        return MODELS[name]
    except KeyError:
        raise UpscalerError(f"there is no model {name!r}; there are {', '.join(MODELS)}") from None
