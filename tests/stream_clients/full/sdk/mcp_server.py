"""An MCP server of the official SDK, whose one tool takes its time: mcp_server.py PORT TRANSPORT

TRANSPORT is streamable-http (at /mcp) or sse (at /sse and /messages/).
"""

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("takes its time")


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, with a pause and a notice of progress for each number."""
    for number in range(1, to + 1):
        await asyncio.sleep(1)
        await ctx.report_progress(number, to, f"h\u00e9llo {number}")
    await asyncio.sleep(1)
    return f"counted to {to}"


server.run(sys.argv[2], host="127.0.0.1", port=int(sys.argv[1]))
