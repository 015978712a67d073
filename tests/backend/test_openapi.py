"""Sends generated requests, valid and invalid, to every operation of the OpenAPI document."""

from __future__ import annotations

import os
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from backend.app import create_app

EXAMPLES = int(os.environ.get("FRAMESTREAM_FUZZ", "4"))
"""How many requests are sent to each operation."""

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
schema = schemathesis.openapi.from_dict(create_app().openapi())


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_makes_the_server_fail(
    case: schemathesis.Case[Any], client: httpx.Client
) -> None:
    response = case.call(base_url=str(client.base_url), timeout=60)
    case.validate_response(response, checks=[not_a_server_error])
