"""Loads what a `NetworkSpec` decides: its weights, its network, its precision. Needs torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from engine.errors import UpscalerError
from engine.upscale.devices import openvino_target
from engine.upscale.inference import Precision, Runner, best_precision
from engine.upscale.models import Model, model_named
from engine.upscale.network import CompactShape, Network, blend_denoise, load_network
from engine.upscale.network_stage import NetworkStage
from engine.upscale.options import NetworkOptions
from engine.upscale.other_networks import load_user_network
from engine.upscale.weights import weights_path


def checkpoint_digest(model: Model, options: NetworkOptions) -> str:
    """Tells the weights from all others, and how much of the companion is blended in.

    Fetches them where they are not there. Raises `UpscalerError` where they cannot be had.
    """
    path = weights_path(model, model_path=options.model_path, on_progress=options.on_download)
    if options.denoise == 1:
        return _digest(path)
    _companion_path(model, options)
    return f"{_digest(path)}:denoise={options.denoise:g}"


def precision_on(device: str, name: str | None) -> Precision:
    """The precision of that name, or what suits the device. Raises `UpscalerError`."""
    if name is None:
        if (target := openvino_target(device)) is not None:
            return Precision.BF16 if target == "CPU" else Precision.FP16
        return best_precision(torch.device(device))
    try:
        return Precision(name)
    except ValueError:
        names = ", ".join(Precision)
        raise UpscalerError(f"there is no precision {name!r}; there are {names}") from None


def load_stage(
    name: str, device: str, weights: str, precision: str, options: NetworkOptions
) -> NetworkStage:
    """The model of that name on the device, ready to run.

    `weights` is what `checkpoint_digest` gave. Raises `UpscalerError` where the weights are not
    there, or are others.
    """
    model = model_named(name)
    if checkpoint_digest(model, options) != weights:
        raise UpscalerError(f"{name}: its weights here are not those the export was planned with")
    path = weights_path(model, model_path=options.model_path)
    network = load_network(path) if options.model_path is None else load_user_network(path)
    if options.denoise != 1:
        companion = load_network(_companion_path(model, options))
        network = blend_denoise(network, companion, options.denoise)
    return NetworkStage(
        runner_on(network, device, Precision(precision), options), batch=options.batch, name=name
    )


def runner_on(
    network: Network, device: str, precision: Precision, options: NetworkOptions
) -> Runner:
    """The network on the device, as near to the precision as it can be computed."""
    if (target := openvino_target(device)) is not None:
        return _openvino_runner(network, target, precision)
    on = torch.device(device)
    possible = _possible(precision, network, options)
    if options.compile is not None:
        return _tensorrt_runner(network, on, possible)
    runner = Runner(network, on, possible, at_once=_passes_at_once(network, on))
    if possible != precision:
        runner.events.append(f"the network does not support {precision}: computed in float32")
    return runner


def _openvino_runner(network: Network, target: str, precision: Precision) -> Runner:
    """The network by OpenVINO; by torch, with an event that says so, where it is not ours."""
    from engine.upscale.openvino_network import OpenVinoNetwork, graph_of

    cpu = torch.device("cpu")
    at_once = _passes_at_once(network, cpu)
    try:
        graph = graph_of(network)
    except UpscalerError as error:
        best = best_precision(cpu)
        dtypes = network.shape.dtypes
        runner = Runner(network, cpu, best if best.dtype in dtypes else Precision.FP32)
        runner.events.append(f"{error}: computed by torch on the CPU")
        return runner
    compiled = OpenVinoNetwork(graph, network.shape.scale, target, precision, at_once)
    return Runner(network, cpu, precision, compiled=compiled, at_once=at_once)


def _tensorrt_runner(network: Network, device: torch.device, precision: Precision) -> Runner:
    """The network by TensorRT; by torch, with an event that says so, where that cannot be."""
    try:
        from engine.upscale.tensorrt_network import TensorRtNetwork

        compiled = TensorRtNetwork(
            network, device, precision, lambda: network.to(device, precision.dtype)
        )
    except (UpscalerError, ImportError) as error:  # its libraries may not load
        runner = Runner(network, device, precision)
        runner.events.append(f"{error}: computed by torch")
        return runner
    runner = Runner(network, device, precision, compiled=compiled)
    compiled.events = runner.events
    return runner


def _passes_at_once(network: Network, device: torch.device) -> int:
    """Pictures that are computed at the same time on a device.

    Two on a CPU, for a network whose pass takes little memory. See `host_pictures`.
    """
    return 2 if device.type == "cpu" and isinstance(network.shape, CompactShape) else 1


def _possible(precision: Precision, network: Network, options: NetworkOptions) -> Precision:
    """The precision, or float32 where the network cannot do it and nobody asked for it."""
    if precision.dtype in network.shape.dtypes:
        return precision
    if options.precision is not None:
        raise UpscalerError(f"{options.model_path}: the network does not support {precision}")
    return Precision.FP32


def _companion_path(model: Model, options: NetworkOptions) -> Path:
    """Where the weights are that denoise less."""
    if model.companion is None or options.model_path is not None:
        raise UpscalerError("denoise strength is for the official realesr-general-x4v3 only")
    return weights_path(model_named(model.companion), on_progress=options.on_download)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
