"""The table of official models, against its own rules and a real release file."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from engine.errors import UpscalerError
from engine.upscale.models import ANIME_VIDEO, MODELS, Model, model_named
from tests.engine.upscale.material import real_weights


def test_names() -> None:
    assert list(MODELS) == [
        "realesr-general-x4v3",
        "realesr-general-wdn-x4v3",
        "realesr-animevideov3",
        "realesrgan-x4plus",
        "realesrgan-x2plus",
        "realesrgan-x4plus-anime-6b",
    ]
    assert model_named("realesrgan-x2plus").scale == 2


def test_a_name_that_is_none_lists_those_there_are() -> None:
    with pytest.raises(UpscalerError, match=r"no model 'esrgan'; there are realesr-general-x4v3, "):
        model_named("esrgan")


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_entry_is_well_formed(model: Model) -> None:
    assert len(bytes.fromhex(model.sha256)) == 32
    assert model.file_name.endswith(".pth")
    if model.companion is not None:
        companion = MODELS[model.companion]
        assert (companion.scale, companion.flops_per_pixel) == (model.scale, model.flops_per_pixel)


def test_hashes_and_files_are_all_different() -> None:
    for values in ({m.sha256 for m in MODELS.values()}, {m.file_name for m in MODELS.values()}):
        assert len(values) == len(MODELS)


def test_a_real_release_file_is_what_the_table_says() -> None:
    content = real_weights("animevideov3").read_bytes()
    assert len(content) == ANIME_VIDEO.size_bytes
    assert hashlib.sha256(content).hexdigest() == ANIME_VIDEO.sha256


def test_the_table_and_the_download_load_no_torch() -> None:
    code = "import sys, engine.upscale.models, engine.upscale.weights; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pooch", "requests"} & set(done.stdout.split())
