// What a Node backend does with ioredis: publish, pipelined, in a transaction, and listen.
const Redis = require('ioredis');

async function main(host, port) {
  const options = { host, port: Number(port), retryStrategy: null, maxRetriesPerRequest: 0 };
  const client = new Redis(options);
  console.log('publish', await client.publish('news', JSON.stringify({ hello: 'wörld' })));
  const replies = await client.pipeline().publish('news', 'one').publish('news', 'two').exec();
  console.log('pipeline', JSON.stringify(replies));
  console.log('transaction', JSON.stringify(await client.multi().publish('news', 'three').exec()));

  const listener = new Redis(options);
  const heard = new Promise((resolve) => {
    listener.on('message', (channel, message) => resolve(`${channel} ${message}`));
  });
  console.log('subscribed', await listener.subscribe('mine'));
  console.log('mine', await client.publish('mine', 'to myself'));
  console.log('heard', await heard);
  listener.disconnect();
  client.disconnect();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
