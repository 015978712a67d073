"""Chooses how crops are enlarged on this machine, and says why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from engine.errors import UpscalerError
from engine.upscale.devices import check_compiler, choose_device, quick_lack_of_cuda
from engine.upscale.models import GENERAL, MODELS, X2PLUS, X4PLUS, Model, model_named
from engine.upscale.options import NetworkOptions
from engine.upscale.spec import NetworkSpec
from engine.upscale.stage import PlainResampler, StageSpec, Upscaler

QUALITY = "realesrgan"
"""x2plus where a crop is at most doubled, which is a quarter of the work; x4plus above."""

UPSCALERS = ("auto", "none", QUALITY, *MODELS)
DEFAULTS = NetworkOptions()
"""All that a user may set, left as it is."""


def choose_upscaler(
    name: str = "auto", device: str = "auto", options: NetworkOptions = DEFAULTS
) -> Upscaler:
    """The upscaler of that name on that device. `auto` takes what runs well here.

    With CUDA, `auto` is realesr-general-x4v3 for clips whose crop is smaller than the target and
    plain resampling for the others. Without CUDA, it is plain resampling for all. Raises
    `UpscalerError` for a name or a device that does not exist here.
    """
    if name not in UPSCALERS:
        raise UpscalerError(f"there is no upscaler {name!r}; there are {', '.join(UPSCALERS)}")
    if name == "none":
        return PlainResampler("asked for")
    if name == "auto" and device not in ("cuda", "mps") and (lack := _lack_of_speed(device)):
        return PlainResampler(
            f"auto: {lack}, so plain resampling; ask for {GENERAL.name} to run it all the same"
        )
    plain = options.model_path is None and options.precision is None
    chosen = choose_device(device, plain_network=plain)
    check_compiler(options.compile, chosen.name)
    return Networks(
        name, chosen.name, f"{'auto' if name == 'auto' else 'asked for'}: {chosen.why}", options
    )


def _lack_of_speed(device: str) -> str | None:
    """Why a network that nobody named would be too slow on the device; None where it is not."""
    if device == "auto":
        return quick_lack_of_cuda()
    return f"a network is slow on device {device}"


def network_for(name: str, scale: float) -> Model | None:
    """The model that an upscaler takes for clips of that scale where there is CUDA.

    None for plain resampling. Raises `UpscalerError` for an unknown name.
    """
    if name == "none":
        return None
    if name == "auto":
        return GENERAL if scale > 1 else None
    if name == QUALITY:
        return X2PLUS if scale <= X2PLUS.scale else X4PLUS
    return model_named(name)


@dataclass(slots=True)
class Networks:
    """An `Upscaler` that decides which network each clip goes through."""

    name: str
    device: str
    why: str
    options: NetworkOptions
    _specs: dict[Model, NetworkSpec] = field(default_factory=dict)

    def stage_for(self, scale: float) -> StageSpec:
        """See `Upscaler`. Fetches the weights where they are not there, and loads no network."""
        model = network_for(self.name, scale)
        if model is None:
            return PlainResampler("the crop is not smaller than the target")
        if model not in self._specs:
            self._specs[model] = self._spec(model)
        return self._specs[model]

    def _spec(self, model: Model) -> NetworkSpec:
        from engine.upscale.load import checkpoint_digest, precision_on

        return NetworkSpec(
            model=model.name,
            device=self.device,
            weights=checkpoint_digest(model, self.options),
            precision=precision_on(self.device, self.options.precision).value,
            options=replace(self.options, on_download=None),
        )
