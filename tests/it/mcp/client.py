"""Asks a server of MCP with the client of the package `mcp`, and prints what it saw as JSON.

Standard input has what to ask: {"url", "key"} or {"command", "arguments", "folder"}; "mode": "legacy" or "auto". With "long", a
number, over HTTP: whether an answer of so many bytes arrives, with "progress" or without, and with "event_bytes" in an event.
"""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


def failed(result):
    return {"is_error": result.is_error, "text": result.content[0].text, "meta": result.meta}


async def ask(client):
    seen = {"version": client.protocol_version, "server": client.server_info.name if client.server_info else None}
    tools = (await client.list_tools()).tools
    seen["tools"] = [
        [tool.name, tool.input_schema["type"], tool.annotations.read_only_hint, tool.output_schema is not None]
        for tool in tools
    ]
    result = await client.call_tool("runtime-echo-tool", {"a": [1, "ä"]})
    seen["called"] = {"value": result.structured_content, "text": result.content[0].text, "is_error": result.is_error}
    seen["failed"] = failed(await client.call_tool("runtime-trap", {"trap": True}))
    seen["invalid"] = failed(await client.call_tool("runtime-echo-tool", {"a": 1}))
    try:
        await client.call_tool("runtime-nothing", {})
        seen["unknown"] = None
    except MCPError as error:
        seen["unknown"] = {"code": error.code, "data": error.data}
    told = []

    async def progress(done, total, message):
        told.append([done, total, message])

    await client.call_tool("runtime-sleep", {"wait_ms": 2500}, progress_callback=progress)
    seen["progress"] = told
    begun = asyncio.Event()

    async def begins(done, total, message):
        if message == "running":
            begun.set()

    endless = asyncio.create_task(client.call_tool("runtime-infinite-loop", {}, progress_callback=begins))
    await asyncio.wait_for(begun.wait(), 60)
    endless.cancel()
    try:
        await endless
        seen["cancelled"] = False
    except asyncio.CancelledError:
        seen["cancelled"] = True
    # The conversation goes on.
    again = await client.call_tool("runtime-echo-tool", {"a": []})
    seen["again"] = again.structured_content
    return seen


async def ask_long(client, asked):
    async def ignored(done, total, message):
        pass

    await client.list_tools()
    try:
        result = await client.call_tool(
            "runtime-echo-tool", {"a": ["x" * asked["long"]]}, progress_callback=ignored if asked["progress"] else None
        )
    except MCPError as error:
        return {"refused": error.message}
    return {"arrived": len(result.structured_content["a"][0])}


async def main(asked):
    if "long" in asked:
        bound = {"max_sse_event_size": asked["event_bytes"]} if asked["event_bytes"] else {}
        headers = {"Authorization": f"Bearer {asked['key']}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(asked["url"], http_client=http, **bound)
            async with Client(transport, mode=asked["mode"]) as client:
                return await ask_long(client, asked)
    if "url" in asked:
        headers = {"Authorization": f"Bearer {asked['key']}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(asked["url"], http_client=http)
            async with Client(transport, mode=asked["mode"]) as client:
                return await ask(client)
    server = StdioServerParameters(
        command=asked["command"], args=asked["arguments"], cwd=asked["folder"], env=dict(os.environ)
    )
    async with Client(server, mode=asked["mode"]) as client:
        return await ask(client)


print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
