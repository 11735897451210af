// Reads a message with the official SDK: anthropic_client.cjs URL

const Anthropic = require('@anthropic-ai/sdk');
const { fetch } = require('../../node.cjs');

async function main() {
  const client = new Anthropic({ apiKey: 'none', baseURL: process.argv[2], fetch, maxRetries: 0 });
  const texts = [];
  const stream = client.messages
    .stream({ model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'hello' }] })
    .on('text', (text) => texts.push(text));
  const final = await stream.finalMessage();
  const seen = { texts, stop: final.stop_reason, tokens: final.usage.output_tokens };
  process.stdout.write(`${JSON.stringify(seen)}\n`);
  process.exit(0);
}

main();
