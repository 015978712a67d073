"""Which network a clip goes through, as a value. Knows no torch until it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import UpscalerError
from engine.upscale.devices import OPENVINO
from engine.upscale.options import NetworkOptions
from engine.upscale.stage import PlainResampler, StageSpec

if TYPE_CHECKING:
    from engine.upscale.network_stage import NetworkStage


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A `StageSpec`: one model with its weights, on one device, at one precision."""

    model: str
    """The name of an official model."""
    device: str
    """As torch spells it, or OpenVINO's: see `devices`."""
    weights: str
    """Digest of the checkpoint, and how much of its companion is blended in."""
    precision: str
    """fp32, fp16 or bf16."""
    options: NetworkOptions

    @property
    def key(self) -> str:
        """See `StageSpec`."""
        kind, _, place = self.device.partition(":")
        if kind == OPENVINO:  # its CPU and its GPU give other pixels; two of torch's GPUs do not
            kind = f"{OPENVINO}-{place or 'CPU'}"
        by = f":{self.options.compile}" if self.options.compile else ""
        return f"{self.weights}:{self.precision}:{kind}{by}"

    def load(self) -> NetworkStage:
        """See `StageSpec`. Raises `UpscalerError` where other weights than these are found."""
        from engine.upscale.load import load_stage

        return load_stage(self.model, self.device, self.weights, self.precision, self.options)


def stage_document(spec: StageSpec) -> dict[str, Any]:
    """A stage as JSON, for a machine that has the same official weights.

    Raises `UpscalerError` for a checkpoint of the user's own, which is not there.
    """
    if not isinstance(spec, NetworkSpec):
        return {"model": None}
    if spec.options.model_path is not None:
        raise UpscalerError(f"{spec.options.model_path}: is not on other machines")
    return {
        "model": spec.model,
        "device": spec.device,
        "weights": spec.weights,
        "precision": spec.precision,
        "denoise": spec.options.denoise,
        "batch": spec.options.batch,
        "compile": spec.options.compile,
    }


def stage_of_document(document: dict[str, Any]) -> StageSpec:
    """What `stage_document` wrote."""
    if document["model"] is None:
        return PlainResampler("the crop is not smaller than the target")
    return NetworkSpec(
        model=str(document["model"]),
        device=str(document["device"]),
        weights=str(document["weights"]),
        precision=str(document["precision"]),
        options=NetworkOptions(
            denoise=float(document["denoise"]),
            batch=document["batch"],
            compile=document["compile"],
        ),
    )
