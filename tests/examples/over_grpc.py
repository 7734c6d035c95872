"""A program for the environment of LangGraph's server: prune threads as the production server does.

That has a part in Go, which calls the checkpointer by gRPC. The part that answers is in the Python package, and runs
here as it is, on a port of loopback. What it is told to do comes as arguments: a strategy and the ids of threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

os.environ.update(
    MIGRATIONS_PATH="__inmem",
    DATABASE_URI=":memory:",
    REDIS_URI="fake",
    LANGGRAPH_RUNTIME_EDITION="inmem",
    LANGGRAPH_CHECKPOINTER=json.dumps({"backend": "custom", "path": "./checkpointer.py:create_checkpointer"}),
)

import grpc
from langgraph_api._checkpointer import exit_checkpointer, start_checkpointer
from langgraph_api.grpc.servicers.checkpointer import CheckpointerServicerImpl
from langgraph_grpc_common.proto.checkpointer_pb2 import PruneRequest
from langgraph_grpc_common.proto.checkpointer_pb2_grpc import CheckpointerStub, add_CheckpointerServicer_to_server


async def main(strategy: str, *thread_ids: str) -> None:
    await start_checkpointer()
    server = grpc.aio.server()
    add_CheckpointerServicer_to_server(CheckpointerServicerImpl(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            named = PruneRequest.PruneStrategy.Value(strategy)
            await CheckpointerStub(channel).Prune(PruneRequest(thread_ids=thread_ids, strategy=named))
    finally:
        await server.stop(None)
        await exit_checkpointer()


asyncio.run(main(*sys.argv[1:]))
