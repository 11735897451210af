// A model that is none: it answers in the formats of AI services, word by word. node model.cjs [PORT]
//
// POST /openai/chat/completions, /anthropic/v1/messages, /ai (the AI SDK's UI messages) and /runs/stream
// (LangGraph); GET or POST /events. A prompt with "slow" takes its time. It prints a line for each request:
// what a generation would cost.

const http = require('node:http');

const words = ['Once', ' upon', ' a', ' time', ' there', ' was', ' a', ' stream', '.'];

const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const data = (value) => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`;

const openai = function* () {
  const chunk = (delta, finish) => ({
    id: 'chat-1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'none',
    choices: [{ index: 0, delta, finish_reason: finish }],
  });
  yield data(chunk({ role: 'assistant', content: '' }, null));
  for (const content of words) yield data(chunk({ content }, null));
  yield data(chunk({}, 'stop'));
  yield data('[DONE]');
};

const anthropic = function* () {
  const usage = { input_tokens: 1, output_tokens: 1 };
  const message = { id: 'm1', type: 'message', role: 'assistant', content: [], model: 'none', usage };
  const named = (value) => event(value.type, value);
  yield named({ type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null } });
  yield named({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } });
  yield named({ type: 'ping' });
  for (const text of words) {
    yield named({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } });
  }
  yield named({ type: 'content_block_stop', index: 0 });
  yield named({ type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage });
  yield named({ type: 'message_stop' });
};

const ai = function* () {
  yield data({ type: 'start', messageId: 'm1' });
  yield data({ type: 'text-start', id: 't1' });
  for (const delta of words) yield data({ type: 'text-delta', id: 't1', delta });
  yield data({ type: 'text-end', id: 't1' });
  yield data({ type: 'finish' });
  yield data('[DONE]');
};

const langgraph = function* () {
  yield event('metadata', { run_id: 'r1' });
  for (const word of words) yield event('values', { word });
  yield event('end', null);
};

const events = function* () {
  for (const word of words) yield data(word.trim());
  yield event('named', { a: 1 });
  yield data('two\ndata: lines');
  yield data('last');
};

const formats = {
  '/openai/chat/completions': openai,
  '/anthropic/v1/messages': anthropic,
  '/ai': ai,
  '/runs/stream': langgraph,
  '/events': events,
};

const server = http.createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += part;
  console.log(`${request.method} ${request.url}`);
  const format = formats[request.url.split('?')[0]];
  if (!format) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    ...(format === ai && { 'x-vercel-ai-ui-message-stream': 'v1' }),
  });
  const pause = body.includes('slow') ? 300 : 20;
  let number = 0;
  for (const piece of format()) {
    if (response.destroyed) return;
    // As sse-starlette and OpenRouter say that they are still there.
    if (number % 4 === 0) response.write(': ping\n\n');
    number += 1;
    response.write(piece);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  response.end();
});
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
