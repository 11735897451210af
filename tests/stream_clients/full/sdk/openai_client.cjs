// Reads a chat completion and a response with the official SDK: openai_client.cjs URL

const OpenAI = require('openai');
const { fetch } = require('../../node.cjs');

async function main() {
  const client = new OpenAI({ apiKey: 'none', baseURL: `${process.argv[2]}/v1`, fetch, maxRetries: 0 });
  const messages = [{ role: 'user', content: 'hello' }];
  const chat = [];
  for await (const chunk of await client.chat.completions.create({ model: 'm', messages, stream: true })) {
    chat.push(chunk.choices[0].delta.content ?? null);
  }
  const response = [];
  for await (const event of await client.responses.create({ model: 'm', input: 'hello', stream: true })) {
    response.push(event.type === 'response.output_text.delta' ? event.delta : event.type);
  }
  process.stdout.write(`${JSON.stringify({ chat, response })}\n`);
  process.exit(0);
}

main();
