// Calls the tool of mcp_server with the official SDK: mcp_client.cjs URL TRANSPORT

const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { SSEClientTransport } = require('@modelcontextprotocol/sdk/client/sse.js');
const { fetch } = require('../../node.cjs');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

async function main() {
  const [url, kind] = process.argv.slice(2);
  const Transport = kind === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport;
  const client = new Client({ name: 'test', version: '1.0.0' });
  await client.connect(new Transport(new URL(url), { fetch }));
  const tools = (await client.listTools()).tools.map(({ name }) => name);
  const progress = [];
  const result = await client.callTool({ name: 'count', arguments: { to: 3 } }, undefined, {
    onprogress: ({ progress: number, total, message }) => progress.push([number, total, message]),
  });
  process.stdout.write(`${JSON.stringify({ tools, progress, text: result.content.map(({ text }) => text) })}\n`);
  await client.close();
  process.exit(0);
}

main();
