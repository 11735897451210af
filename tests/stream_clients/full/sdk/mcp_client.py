"""Calls the tool of mcp_server with the official SDK: mcp_client.py URL TRANSPORT

Over HTTP/2 with HTTP2=yes.
"""

import asyncio
import json
import os
import sys

import httpx2
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

URL, TRANSPORT = sys.argv[1:]


def insecure(headers=None, timeout=None, auth=None):
    http2 = "HTTP2" in os.environ
    return httpx2.AsyncClient(headers=headers, timeout=60, auth=auth, verify=False, http2=http2)


async def main():
    if TRANSPORT == "sse":
        transport = sse_client(URL, httpx_client_factory=insecure)
    else:
        transport = streamable_http_client(URL, http_client=insecure())
    progress = []

    async def note(number, total, message):
        progress.append([number, total, message])

    async with transport as (read, write, *_):
        async with ClientSession(read, write) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            result = await session.call_tool("count", {"to": 3}, progress_callback=note)
    text = [part.text for part in result.content]
    print(json.dumps({"tools": tools, "progress": progress, "text": text}))


asyncio.run(main())
