// What a Node backend does with node-redis: publish, pipelined, in a transaction, and listen.
const { createClient } = require('redis');

async function main(host, port) {
  const client = createClient({ socket: { host, port: Number(port), reconnectStrategy: false } });
  await client.connect();
  console.log('publish', await client.publish('news', JSON.stringify({ hello: 'wörld' })));
  const both = [client.publish('news', 'one'), client.publish('news', 'two')];
  console.log('pipeline', JSON.stringify(await Promise.all(both)));
  const replies = await client.multi().publish('news', 'three').exec();
  console.log('transaction', JSON.stringify(replies));

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
