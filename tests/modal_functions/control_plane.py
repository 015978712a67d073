"""Modal's control plane on loopback: as much of it as the real client needs to run functions here.

Deployed functions run in threads of this process, each thread a "container". A function that is
deployed as a `Program` runs in a process of its own, which a test may kill. The wire format is
private to modal, so its version is pinned.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import modal
import pytest
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.server import Server, Stream
from modal._grpc_client import _DEFAULT_RETRY
from modal._serialization import deserialize, serialize
from modal.client import _Client
from modal.exception import InputCancellation
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

from backend import modal_client
from tests.waiting import join

GenericResult = api_pb2.GenericResult
ARRIVAL_S = 0.01
"""How often a waiting request checks for its output."""
CONTAINER_S = 300
"""How long a container of a process of its own may take."""


@dataclass(frozen=True, slots=True)
class Program:
    """A function that runs in a process of its own, by the name it is imported under."""

    name: str
    """`package.module:function`."""


Body = Callable[..., Any] | Program


@dataclass(frozen=True, slots=True)
class Down:
    """Refuse the request, as where nothing listens."""

    status: Status = Status.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Slow:
    """Do what was asked, after a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lose:
    """Do what was asked, and lose the response."""


Fault = Down | Slow | Lose


class ContainerEndedError(BaseException):
    """What a function that runs in a thread raises to have its container end, and how it ends."""

    KILLED = GenericResult.GENERIC_STATUS_INTERNAL_FAILURE
    TIMED_OUT = GenericResult.GENERIC_STATUS_TIMEOUT

    def __init__(self, status: Any) -> None:
        super().__init__()
        self.status = status


def no_fault(name: str, request: Any) -> None:
    """Nothing goes wrong with any request."""


@dataclass(slots=True)
class Container:
    """One input of a call, and what runs it."""

    thread: threading.Thread | None = None
    process: subprocess.Popen[bytes] | None = None
    cancelled: bool = False

    def kill(self) -> None:
        """Kills the process, as happens when a container's machine is lost."""
        assert self.process is not None, "only a Program can be killed"
        self.process.kill()

    def cancel(self) -> None:
        """Cancels the input. It is told once, however often it is asked for."""
        if self.cancelled:
            return
        self.cancelled = True
        if self.process is not None:
            self.process.terminate()
        elif self.thread is not None and self.thread.is_alive():
            assert self.thread.ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.thread.ident), ctypes.py_object(InputCancellation)
            )


@dataclass(slots=True)
class Call:
    """One function call with its inputs: one of a spawned call, many of a map."""

    id: str
    function: str
    containers: list[Container] = field(default_factory=list)
    outputs: list[api_pb2.FunctionGetOutputsItem] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        return len(self.containers) - len(self.outputs)


class ControlPlane:
    """Deployed functions, calls, dicts and queues, and the requests that the client makes."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: dict[str, Call] = {}
        self.reachable = True
        """A test sets it to False to have every request refused."""
        self.fault: Callable[[str, Any], Fault | None] = no_fault
        """What goes wrong with a request. Its name is `FunctionCallCancel`, `DictUpdate`, ..."""
        self.requests: list[str] = []
        """The names of the requests that came, retries included."""
        self._responses: dict[str, Any] = {}
        """By idempotency key: a request that the client repeats has its effect once."""
        self._functions: dict[str, Body] = {}
        self._methods: dict[str, list[str]] = {}
        self._dicts: dict[str, dict[bytes, bytes]] = {}
        self._queues: dict[str, list[bytes]] = {}
        self._ids = count(1)

    def deploy(
        self,
        app: str,
        functions: Mapping[str, Body],
        classes: Mapping[str, Mapping[str, Body]] | None = None,
    ) -> None:
        """Deploys functions, and classes with their methods, under their names."""
        for name, body in functions.items():
            self._functions[f"fu-{app}/{name}"] = body
        for name, methods in (classes or {}).items():
            self._methods[f"fu-{app}/{name}.*"] = list(methods)
            for method, body in methods.items():
                self._functions[f"fu-{app}/{name}.*/{method}"] = body

    def forget(self) -> None:
        """Removes all that was deployed, called and stored. Cancels what runs and waits for it."""
        for call in self.calls.values():
            for container in call.containers:
                container.cancel()
        for call in self.calls.values():
            for container in call.containers:
                if container.thread is not None:
                    container.thread.join(10)
        self.calls.clear()
        self._functions.clear()
        self._methods.clear()
        self._dicts.clear()
        self._queues.clear()
        self._responses.clear()
        self.requests.clear()
        self.fault = no_fault
        self.reachable = True

    def cancel(self, call_id: str) -> None:
        """Cancels a call, as an operator does."""
        for container in self.calls[call_id].containers:
            container.cancel()

    def calls_of(self, function: str) -> list[Call]:
        """The calls of a function or method, by the end of its name, oldest first."""
        return [call for call in list(self.calls.values()) if call.function.endswith(function)]

    async def respond(self, name: str, request: Any, idempotency_key: str | None) -> Any:
        """The response to a request. Raises `GRPCError` where it is refused or lost."""
        self.requests.append(name)
        fault = self.fault(name, request) if self.reachable else Down()
        if isinstance(fault, Down):
            raise GRPCError(fault.status, "the control plane is down")
        if isinstance(fault, Slow):
            await asyncio.sleep(fault.seconds)
        response = self._responses.get(idempotency_key or "")
        if response is None:
            response = getattr(self, name)(request)
            if inspect.isawaitable(response):
                response = await response
            if idempotency_key is not None:
                self._responses[idempotency_key] = response
        if isinstance(fault, Lose):
            raise GRPCError(Status.UNAVAILABLE, "the response is lost")
        return response

    # the client's requests, by their names

    def FunctionGet(self, request: api_pb2.FunctionGetRequest) -> Any:  # noqa: N802
        name = f"fu-{request.app_name}/{request.object_tag}"
        if name not in self._functions and name not in self._methods:
            raise GRPCError(Status.NOT_FOUND, f"no function {request.object_tag}")
        ranked = api_pb2.FunctionData.RankedFunction(function=api_pb2.Function())
        return api_pb2.FunctionGetResponse(
            function_id=name,
            handle_metadata=self._metadata(name, request.object_tag),
            function=api_pb2.FunctionData(ranked_functions=[ranked]),
        )

    def ClassGet(self, request: api_pb2.ClassGetRequest) -> Any:  # noqa: N802
        if f"fu-{request.app_name}/{request.object_tag}.*" not in self._methods:
            raise GRPCError(Status.NOT_FOUND, f"no class {request.object_tag}")
        return api_pb2.ClassGetResponse(class_id=f"cs-{request.app_name}/{request.object_tag}")

    def FunctionMap(self, request: api_pb2.FunctionMapRequest) -> Any:  # noqa: N802
        call = Call(f"fc-{next(self._ids)}", request.function_id)
        self.calls[call.id] = call
        return api_pb2.FunctionMapResponse(
            function_call_id=call.id,
            pipelined_inputs=[self._start(call, item) for item in request.pipelined_inputs],
            function_call_jwt=call.id,
        )

    def FunctionPutInputs(self, request: api_pb2.FunctionPutInputsRequest) -> Any:  # noqa: N802
        call = self.calls[request.function_call_id]
        return api_pb2.FunctionPutInputsResponse(
            inputs=[self._start(call, item) for item in request.inputs]
        )

    async def FunctionGetOutputs(  # noqa: N802
        self, request: api_pb2.FunctionGetOutputsRequest
    ) -> Any:
        call = self._call(request.function_call_id)
        seen = int(request.last_entry_id.partition("-")[0] or 0)
        until = time.monotonic() + min(request.timeout, 2)
        while len(call.outputs) <= seen and time.monotonic() < until:
            await asyncio.sleep(ARRIVAL_S)
        outputs = call.outputs[seen:]
        return api_pb2.FunctionGetOutputsResponse(
            outputs=outputs,
            idxs=[item.idx for item in outputs],
            last_entry_id=f"{seen + len(outputs)}-0",
            num_unfinished_inputs=call.unfinished,
        )

    def FunctionCallFromId(  # noqa: N802
        self, request: api_pb2.FunctionCallFromIdRequest
    ) -> Any:
        call = self._call(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.id, num_inputs=len(call.containers)
        )

    def FunctionCallCancel(  # noqa: N802
        self, request: api_pb2.FunctionCallCancelRequest
    ) -> Any:
        for container in self._call(request.function_call_id).containers:
            container.cancel()
        return Empty()

    def DictGetOrCreate(self, request: api_pb2.DictGetOrCreateRequest) -> Any:  # noqa: N802
        name = f"di-{request.deployment_name or next(self._ids)}"
        self._dicts.setdefault(name, {})
        return api_pb2.DictGetOrCreateResponse(dict_id=name)

    def DictUpdate(self, request: api_pb2.DictUpdateRequest) -> Any:  # noqa: N802
        content = self._dicts[request.dict_id]
        new = {entry.key: entry.value for entry in request.updates}
        if request.if_not_exists and content.keys() & new.keys():
            return api_pb2.DictUpdateResponse(created=False)
        content.update(new)
        return api_pb2.DictUpdateResponse(created=True)

    def DictGet(self, request: api_pb2.DictGetRequest) -> Any:  # noqa: N802
        value = self._dicts[request.dict_id].get(request.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    def DictPop(self, request: api_pb2.DictPopRequest) -> Any:  # noqa: N802
        value = self._dicts[request.dict_id].pop(request.key, None)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    def DictLen(self, request: api_pb2.DictLenRequest) -> Any:  # noqa: N802
        return api_pb2.DictLenResponse(len=len(self._dicts[request.dict_id]))

    def QueueGetOrCreate(self, request: api_pb2.QueueGetOrCreateRequest) -> Any:  # noqa: N802
        name = f"qu-{request.deployment_name or next(self._ids)}"
        self._queues.setdefault(name, [])
        return api_pb2.QueueGetOrCreateResponse(queue_id=name)

    def QueuePut(self, request: api_pb2.QueuePutRequest) -> Any:  # noqa: N802
        self._queues[request.queue_id].extend(request.values)
        return Empty()

    async def QueueGet(self, request: api_pb2.QueueGetRequest) -> Any:  # noqa: N802
        waiting = self._queues[request.queue_id]
        until = time.monotonic() + request.timeout
        while not waiting and time.monotonic() < until:
            await asyncio.sleep(ARRIVAL_S)
        taken, waiting[:] = waiting[: request.n_values], waiting[request.n_values :]
        return api_pb2.QueueGetResponse(values=taken)

    def _metadata(self, function_id: str, tag: str) -> api_pb2.FunctionHandleMetadata:
        methods = {
            method: api_pb2.FunctionHandleMetadata(
                function_name=f"{tag.removesuffix('*')}{method}",
                function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
                is_method=True,
                use_method_name=method,
            )
            for method in self._methods.get(function_id, [])
        }
        return api_pb2.FunctionHandleMetadata(
            function_name=tag,
            function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
            method_handle_metadata=methods,
        )

    def _call(self, call_id: str) -> Call:
        if call_id not in self.calls:
            raise GRPCError(Status.NOT_FOUND, f"no function call {call_id}")
        return self.calls[call_id]

    def _start(
        self, call: Call, item: api_pb2.FunctionPutInputsItem
    ) -> api_pb2.FunctionPutInputsResponseItem:
        method = item.input.method_name
        if method:
            call.function = f"{call.function.partition('.*')[0]}.*/{method}"
        container = Container()
        container.thread = threading.Thread(
            target=self._run,
            args=(call, container, item),
            name=f"container of {call.id}",
            daemon=True,
        )
        call.containers.append(container)
        container.thread.start()
        input_id = f"in-{call.id}-{item.idx}"
        return api_pb2.FunctionPutInputsResponseItem(
            idx=item.idx, input_id=input_id, input_jwt=input_id
        )

    def _run(self, call: Call, container: Container, item: api_pb2.FunctionPutInputsItem) -> None:
        try:
            args, kwargs = deserialize(item.input.args, None)
            body = self._functions[call.function]
            if isinstance(body, Program):
                result = _in_a_process(body, container, args, kwargs)
            else:
                result = _in_this_thread(body, args, kwargs)
        except InputCancellation as error:  # it reached a thread that was about to end
            _drop_quietly(error)
            result = _cancelled()
        call.outputs.append(
            api_pb2.FunctionGetOutputsItem(
                result=result,
                idx=item.idx,
                input_id=f"in-{call.id}-{item.idx}",
                data_format=api_pb2.DATA_FORMAT_PICKLE,
            )
        )


def _in_this_thread(body: Callable[..., Any], args: Any, kwargs: Any) -> GenericResult:
    try:
        made = body(*args, **kwargs)
    except InputCancellation as error:
        _drop_quietly(error)
        return _cancelled()
    except ContainerEndedError as end:
        return GenericResult(status=end.status, exception="the container is gone")
    except BaseException as error:
        return GenericResult(
            status=GenericResult.GENERIC_STATUS_FAILURE, exception=repr(error), data=_pickled(error)
        )
    return GenericResult(status=GenericResult.GENERIC_STATUS_SUCCESS, data=serialize(made))


def _drop_quietly(error: InputCancellation) -> None:
    """Forgets what a cancellation cut off: it may have held connections and files open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        traceback.clear_frames(error.__traceback__)
        error.with_traceback(None)
        gc.collect()


def _in_a_process(program: Program, container: Container, args: Any, kwargs: Any) -> GenericResult:
    command = [sys.executable, "-m", "tests.modal_functions.container", program.name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as container.process:
        try:
            output, _ = container.process.communicate(pickle.dumps((args, kwargs)), CONTAINER_S)
        except subprocess.TimeoutExpired:
            container.process.kill()
            raise
    if container.cancelled:
        return _cancelled()
    if container.process.returncode != 0:
        return GenericResult(
            status=GenericResult.GENERIC_STATUS_INTERNAL_FAILURE, exception="the container is gone"
        )
    return GenericResult(status=GenericResult.GENERIC_STATUS_SUCCESS, data=output)


def _cancelled() -> GenericResult:
    return GenericResult(
        status=GenericResult.GENERIC_STATUS_TERMINATED, exception="the input was cancelled"
    )


def _pickled(error: BaseException) -> bytes:
    try:
        return serialize(error)
    except Exception:  # what cannot be serialized is known by its text
        return b""


class _Everything:
    """Has every attribute, so that the generated table of requests can be built."""

    def __getattr__(self, name: str) -> None:
        return None


class _Servicer:
    """The table of requests for grpclib: those that `ControlPlane` has a method for."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def __mapping__(self) -> dict[str, Handler]:
        known: Mapping[str, Handler] = ModalClientBase.__mapping__(_Everything())  # type: ignore[arg-type]
        return {
            path: Handler(self._answer(name), each.cardinality, each.request_type, each.reply_type)
            for path, each in known.items()
            if hasattr(self._plane, name := path.rpartition("/")[2])
        }

    def _answer(self, name: str) -> Callable[[Stream[Any, Any]], Any]:
        async def answer(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            assert stream.metadata is not None
            key = stream.metadata.get("x-idempotency-key")
            await stream.send_message(
                await self._plane.respond(name, request, str(key) if key else None)
            )

        return answer


@contextmanager
def serving() -> Iterator[ControlPlane]:
    """A control plane that listens on a free port of loopback until the block ends."""
    plane = ControlPlane()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="control plane")
    thread.start()

    def done(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    async def start() -> Server:
        server = Server([_Servicer(plane)])
        await server.start("127.0.0.1", 0)
        return server

    async def stop(server: Server) -> None:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(ARRIVAL_S)  # for transports to notice that they are closed

    server = done(start())
    sockets: Sequence[Any] = server._server.sockets
    plane.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        yield plane
    finally:
        plane.forget()
        done(stop(server))
        loop.call_soon_threadsafe(loop.stop)
        join(thread)
        loop.close()


_clients_before: list[modal.Client] = []


def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries as often as ever, with pauses of a tenth of their length."""
    monkeypatch.setitem(vars(_DEFAULT_RETRY), "base_delay", _DEFAULT_RETRY.base_delay / 10)


def restart_client() -> None:
    """Makes the next use connect and look everything up again, as in a new process.

    Containers run in this process too, and what they are doing keeps its connection.
    """
    _clients_before.append(modal.Client.from_env())
    _Client._set_env_client(None)
    modal_client._get_process_multi_clip_item_fn.cache_clear()
    modal_client._get_concatenate_clips_fn.cache_clear()


def close_clients() -> None:
    """Ends every connection. To be called when all calls are over."""
    restart_client()
    while _clients_before:
        _clients_before.pop().close()
