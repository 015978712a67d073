"""The OpenAPI document says what the server answers, also to errors and to generated requests."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.app import create_app
from backend.jobs import Jobs

EXAMPLES = int(os.environ.get("FRAMESTREAM_FUZZ", "4"))
"""How many requests are sent to each operation."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
schema = schemathesis.openapi.from_dict(create_app().openapi())


def test_a_fault_of_the_server_looks_like_every_error(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("of the server's own")

    monkeypatch.setattr(Jobs, "list", fail)
    answer = httpx.get(f"{client.base_url}/api/exports")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "the server failed; its log says why"}


def test_every_error_is_described_by_one_schema() -> None:
    document = create_app().openapi()
    assert document["components"]["schemas"]["Error"]["required"] == ["detail"]
    others = {("/api/ready", "503"), ("/api/files/{key}", "416")}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            refused = {status for status in operation["responses"] if status >= "400"}
            for status in refused - {status for where, status in others if where == path}:
                content = operation["responses"][status]["content"]
                described = {"schema": {"$ref": "#/components/schemas/Error"}}
                assert content == {"application/json": described}, (path, status)


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case[Any], client: httpx.Client) -> None:
    response = case.call(base_url=str(client.base_url), timeout=60)
    case.validate_response(response, checks=CHECKS)
