// An MCP server of the official SDK, whose one tool takes its time: mcp_server.cjs PORT TRANSPORT
//
// TRANSPORT is streamable-http (at /mcp) or sse (at /sse and /messages).

const { randomUUID } = require('node:crypto');
const { createServer } = require('node:http');
const { setTimeout: delay } = require('node:timers/promises');
const { McpServer } = require('@modelcontextprotocol/sdk/server/mcp.js');
const { SSEServerTransport } = require('@modelcontextprotocol/sdk/server/sse.js');
const { StreamableHTTPServerTransport } = require('@modelcontextprotocol/sdk/server/streamableHttp.js');
const { z } = require('zod');

const [port, kind] = process.argv.slice(2);

/** Counts, with a pause and a notice of progress for each number. */
async function count({ to }, { _meta, sendNotification }) {
  for (let number = 1; number <= to; number += 1) {
    await delay(1000);
    await sendNotification({
      method: 'notifications/progress',
      params: { progressToken: _meta.progressToken, progress: number, total: to, message: `h\u00e9llo ${number}` },
    });
  }
  await delay(1000);
  return { content: [{ type: 'text', text: `counted to ${to}` }] };
}

async function connect(transport) {
  const server = new McpServer({ name: 'takes its time', version: '1.0.0' });
  server.registerTool('count', { inputSchema: { to: z.number() } }, count);
  await server.connect(transport);
  return transport;
}

// Each client has a session of its own.
const sessions = new Map();

async function begin(transport, id) {
  sessions.set(id, transport);
  return connect(transport);
}

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const id = request.headers['mcp-session-id'] ?? url.searchParams.get('sessionId');
  if (kind === 'streamable-http') {
    const own = randomUUID();
    const transport = sessions.get(id)
      ?? await begin(new StreamableHTTPServerTransport({ sessionIdGenerator: () => own }), own);
    await transport.handleRequest(request, response);
  } else if (request.method === 'GET') {
    const transport = new SSEServerTransport('/messages', response);
    await begin(transport, transport.sessionId);
  } else {
    await sessions.get(id).handlePostMessage(request, response);
  }
}).listen(Number(port), '127.0.0.1');
