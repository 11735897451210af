// The PHP examples as they are served: by php-fpm behind nginx, or by PHP's own server, with the
// configurations that stand in examples/php, on free ports.

import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT, directory, eventually, freePort, run, start } from './support.js';

const EXAMPLES = join(ROOT, 'examples/php');

/** The command of the examples' README that starts this program, with configurations of our own in `home`. */
function shown(program, home) {
  const readme = readFileSync(join(EXAMPLES, 'README.md'), 'utf8');
  const command = readme.split('\n').find((line) => line.startsWith(`/usr/sbin/${program}`));
  if (!command) throw new Error(`examples/php/README.md shows no ${program}`);
  const installed = readdirSync('/usr/sbin').find((name) => new RegExp(`^${program}[0-9.]*$`).test(name));
  return `exec ${command.replace(/^\/usr\/sbin\/[^ ]+/, join('/usr/sbin', installed))
    .replace('-p .', `-p ${ROOT}`).replace('examples/php/server/', `${home}/`)}`;
}

const answers = (url) => fetch(url).then(() => true, () => false);

/** php-fpm with so many workers behind nginx, which listens on so many ports: their origins. */
export async function startNginx(t, { workers = 24, ports = 1, env = {} } = {}) {
  const home = directory(t);
  const shipped = (name) => readFileSync(join(EXAMPLES, 'server', name), 'utf8')
    .replaceAll('/tmp/ssegate-', `${home}/`);
  const sessions = join(home, 'sessions');
  mkdirSync(sessions);
  writeFileSync(join(home, 'php-fpm.conf'), `${shipped('php-fpm.conf')
    .replace(/pm.max_children = .*/, `pm.max_children = ${workers}`)}
php_value[session.save_path] = ${sessions}
`);
  const endSignal = 'SIGTERM';
  start(t, '/bin/sh', ['-c', shown('php-fpm', home)], { endSignal, env: { ...process.env, ...env } });

  const listening = [];
  for (let port = 0; port < ports; port += 1) listening.push(await freePort());
  const listen = listening.map((port) => `listen 127.0.0.1:${port};`).join(' ');
  writeFileSync(join(home, 'nginx.conf'), shipped('nginx.conf').replace('listen 127.0.0.1:8000;', listen));
  start(t, '/bin/sh', ['-c', shown('nginx', home)], { endSignal });
  const origins = listening.map((port) => `http://127.0.0.1:${port}`);
  for (const origin of origins) await eventually('nginx answers', () => answers(origin));
  await eventually('php-fpm answers', () => fetch(`${origins[0]}/streams/once.php`).then((r) => r.ok));
  return origins;
}

/** PHP's own server: its origin. It answers one request at a time. */
export async function startPhpServer(t) {
  const address = `127.0.0.1:${await freePort()}`;
  start(t, '/usr/bin/php', ['-S', address, '-t', EXAMPLES]);
  await eventually('PHP answers', () => answers(`http://${address}/`));
  return `http://${address}`;
}

/** A gateway with the configuration of the examples; HTTPS on two ports, settings under `handover` and at the top. */
export async function startExampleGateway(t, {
  backend, redis, handover = '', maxStreamAge = '1h', recheck = '1s', settings = '',
}) {
  const home = directory(t);
  const second = `127.0.0.1:${await freePort()}`;
  const yaml = readFileSync(join(EXAMPLES, 'gateway.yaml'), 'utf8')
    .replace('listeners:\n', `listeners:\n  - address: ${second}\n    tls: { self_signed: true }\n`)
    .replace(/127\.0\.0\.1:8443|127\.0\.0\.1:8080/g, '127.0.0.1:0')
    .replaceAll('${REDIS_URL:-embedded://127.0.0.1:6380}', redis?.url ?? 'embedded://127.0.0.1:0')
    .replaceAll('${BACKEND_URL:-http://127.0.0.1:8000}', backend)
    .replace('recheck: 5s', `recheck: ${recheck}`)
    .replace('max_stream_age: 1h', `max_stream_age: ${maxStreamAge}\n${handover}     `);
  writeFileSync(join(home, 'gateway.yaml'), `${yaml}admin: { address: "127.0.0.1:0" }\n${settings}`);
  const gateway = await run(t, ['run'], home);
  // The listeners are told in their order; the one that was added is the first.
  const origins = gateway.child.log.split('\n').filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line).fields ?? {})
    .filter((fields) => fields.message === 'listening' && fields.kind === 'https')
    .map((fields) => `https://${fields.address}`);
  return { ...gateway, origins, home };
}
