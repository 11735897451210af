// What a Node backend does with ioredis: publish, pipelined, in a transaction, and listen.
const Redis = require('ioredis');

// Until another connection waits for entries.
async function waits(client) {
  while (!(await client.info('clients')).includes('blocked_clients:1')) {}
}

async function main(host, port) {
  const options = { host, port: Number(port), retryStrategy: null, maxRetriesPerRequest: 0 };
  const client = new Redis(options);
  console.log('publish', await client.publish('news', JSON.stringify({ hello: 'wörld' })));
  const replies = await client.pipeline().publish('news', 'one').publish('news', 'two').exec();
  console.log('pipeline', JSON.stringify(replies));
  console.log('transaction', JSON.stringify(await client.multi().publish('news', 'three').exec()));
  await client.del('log');
  const waiter = new Redis(options);
  const woken = waiter.xread('BLOCK', 0, 'STREAMS', 'log', '$');
  await waits(client);
  const id = await client.xadd('log', 'MAXLEN', '~', 100, '1-1', 'data', 'wörld');
  console.log('woken', id, JSON.stringify(await woken));
  console.log('range', JSON.stringify(await client.xrange('log', '-', '+', 'COUNT', 10)));
  const none = await waiter.xread('BLOCK', 1, 'STREAMS', 'log', '$');
  console.log('none', JSON.stringify(none), await client.xlen('log'));
  waiter.disconnect();

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
