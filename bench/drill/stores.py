"""A bucket behind a proxy that resets connections, refuses, cuts off and loses responses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

import boto3

from bench.drill.exports import Exports
from bench.drill.round import Round
from bench.drill.server import Server
from bench.drill.spell import spell
from bench.drill.witness import Witness, check, sqlite_rows
from engine.storage import S3Settings
from tests.s3 import (
    KEY_ID,
    SECRET,
    Cut,
    Fault,
    FaultyProxy,
    Lose,
    Refuse,
    Reset,
    Stall,
    new_bucket,
    s3_server,
)

MOST_FAULTS, MOST_SPELL_S = 8, 10
"""A spell of faults ends after so many faults by chance, or after so long."""
DOWN_SHARE = 0.3
"""How many of the spells are those in which nothing gets through."""

REFUSED = r"(?i)store|bucket|object|key|answer"
"""What an error says where a job failed because the store did."""

FAULTS: Mapping[str, Callable[[Random], Fault]] = {
    "connection reset": lambda _: Reset(),
    "503 of the store": lambda _: Refuse(503, "SlowDown"),
    "cut off in a body": lambda chance: Cut(chance.randrange(2000)),
    "response lost": lambda _: Lose(),
    "silent, then cut off": lambda chance: Stall(chance.uniform(0.1, 1)),
}


@contextmanager
def faulty_bucket(drill: Round) -> Iterator[tuple[FaultyProxy, S3Settings, str]]:
    """A proxy, what a server knows of the bucket behind it, and the bucket's own address."""
    with s3_server() as address:
        proxy = FaultyProxy(address)
        bucket = new_bucket(address)
        with proxy.listening() as front:
            drill.secrets["R2_SECRET_ACCESS_KEY"] = SECRET.encode()
            yield proxy, S3Settings(front, bucket.bucket, KEY_ID, SECRET), address


def variables(bucket: S3Settings) -> dict[str, str]:
    """A bucket as the environment names it."""
    return {
        "R2_ENDPOINT_URL": bucket.endpoint_url,
        "R2_BUCKET_NAME": bucket.bucket,
        "R2_ACCESS_KEY_ID": bucket.access_key_id,
        "R2_SECRET_ACCESS_KEY": bucket.secret_access_key,
    }


def keys_in(address: str, bucket: S3Settings) -> list[str]:
    """The keys of all objects, and those of unfinished uploads, as boto3 lists them."""
    client: Any = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )  # fmt: skip
    objects = client.list_objects_v2(Bucket=bucket.bucket).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", [])
    unfinished = [f"unfinished {each['Key']}" for each in uploads]
    return [each["Key"] for each in objects] + unfinished


def play(drill: Round) -> None:
    """See the module."""
    with faulty_bucket(drill) as (proxy, bucket, address):
        data = drill.folder / "data"
        server = Server(
            drill, data, LOCAL_JOBS="2", MIN_FREE_BYTES="0", MAX_ATTEMPTS="5", **variables(bucket)
        )
        exports = Exports(drill, server, may_fail=REFUSED)
        server.start()
        for _ in range(drill.times):
            exports.begin()
            exports.begin()
            _go_wrong(drill, proxy)
            if drill.chance.random() < 0.3:
                drill.tally.injected("server killed while the store fails")
                server.kill()
                server.start()
        witness = Witness(
            data,
            lambda statement: sqlite_rows(data / "framestream.db", statement),
            lambda: keys_in(address, bucket),
        )
        check(drill, server, exports, witness)


def _go_wrong(drill: Round, proxy: FaultyProxy) -> None:
    """A spell of faults."""
    tally = drill.tally
    enough = tally.faults.total() + drill.chance.randint(1, MOST_FAULTS)
    proxy.fault = spell(drill, FAULTS, down=("store out of reach", Reset), down_share=DOWN_SHARE)
    until_s = time.monotonic() + MOST_SPELL_S
    while tally.faults.total() < enough and time.monotonic() < until_s:
        time.sleep(0.02)
    proxy.fault = lambda _: None
