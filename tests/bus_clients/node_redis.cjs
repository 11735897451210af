// What a Node backend does with node-redis: publish, pipelined, in a transaction, and listen.
const { createClient } = require('redis');

// Until another connection waits for entries.
async function waits(client) {
  while (!(await client.info('clients')).includes('blocked_clients:1')) {}
}

async function main(host, port) {
  const client = createClient({ socket: { host, port: Number(port), reconnectStrategy: false } });
  await client.connect();
  console.log('publish', await client.publish('news', JSON.stringify({ hello: 'wörld' })));
  const both = [client.publish('news', 'one'), client.publish('news', 'two')];
  console.log('pipeline', JSON.stringify(await Promise.all(both)));
  const replies = await client.multi().publish('news', 'three').exec();
  console.log('transaction', JSON.stringify(replies));
  await client.del('log');
  const waiter = client.duplicate();
  await waiter.connect();
  const woken = waiter.xRead({ key: 'log', id: '$' }, { BLOCK: 0 });
  await waits(client);
  const id = await client.xAdd('log', '1-1', { data: 'wörld' });
  console.log('woken', id, JSON.stringify(await woken));
  console.log('range', JSON.stringify(await client.xRange('log', '-', '+', { COUNT: 10 })));
  const none = await waiter.xRead({ key: 'log', id: '$' }, { BLOCK: 1 });
  const { length } = await client.xInfoStream('log');
  console.log('none', JSON.stringify(none), length);
  await waiter.close();

  const listener = client.duplicate();
  await listener.connect();
  let hear;
  const heard = new Promise((resolve) => (hear = resolve));
  await listener.subscribe('mine', (message, channel) => hear(`${channel} ${message}`));
  console.log('mine', await client.publish('mine', 'to myself'));
  console.log('heard', await heard);
  await listener.close();
  await client.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
