// Reads a chat completion with the AI SDK, and its own stream of a message: ai_client.cjs URL

const { createOpenAI } = require('@ai-sdk/openai');
const { DefaultChatTransport, streamText } = require('ai');
const { fetch } = require('../../node.cjs');

async function main() {
  const url = process.argv[2];
  const model = createOpenAI({ apiKey: 'none', baseURL: `${url}/v1`, fetch }).chat('m');
  const chat = [];
  for await (const text of streamText({ model, prompt: 'hello', maxRetries: 0 }).textStream) chat.push(text);
  const transport = new DefaultChatTransport({ api: `${url}/api/chat`, fetch });
  const parts = await transport.sendMessages({
    chatId: '1', trigger: 'submit-message', messages: [{ id: '1', role: 'user', parts: [{ type: 'text', text: 'hello' }] }],
  });
  const message = [];
  for await (const part of parts) message.push(part.delta ?? part.type);
  process.stdout.write(`${JSON.stringify({ chat, message })}\n`);
  process.exit(0);
}

main();
