// The first two minutes with the README, in Chromium: its three lines of JavaScript in the demo page, and its page
// with its PHP, behind the command lines that it shows. Ports are free ones instead of the usual.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import test from 'node:test';
import { promisify } from 'node:util';

import { ARTIFACTS, ROOT, directory, eventually, freePort, openBrowser, run, start } from './support.js';

const PORTS = ['--https-port', '0', '--http-port', '0', '--admin-port', '0', '--bus-port', '0'];

const portOf = (gateway, kind) => gateway.address(kind).split(':').pop();

/** The code blocks of a language. */
function blocks(document, language) {
  const fences = readFileSync(join(ROOT, document), 'utf8').split('\n```');
  return fences.filter((text, index) => index % 2 === 1 && text.startsWith(`${language}\n`))
    .map((text) => text.slice(language.length + 1));
}

/** The one command of the shell blocks that begins so. */
function command(document, beginning) {
  const lines = blocks(document, 'sh').join('\n').split('\n').filter((line) => line.startsWith(beginning));
  assert.equal(lines.length, 1, `${document} shows ${lines.length} times ${beginning}`);
  return lines[0];
}

for (const document of ['README.md', 'README.ja.md']) {
  test(`${document}: three lines of JavaScript receive what one line of PHP publishes`, { timeout: 120_000 }, async (t) => {
    const gateway = await run(t, ['dev', ...PORTS], directory(t));
    const browser = await openBrowser(t);
    const page = await browser.newPage();
    const lines = [];
    page.on('console', (line) => lines.push(line.text()));
    await page.goto(gateway.http);
    const demo = () => page.locator('#open').innerText();
    await eventually('the stream of the demo page is open', async () => await demo() === '1');
    const [javaScript] = blocks(document, 'js');
    assert.equal(javaScript.trim().split('\n').length, 3);
    await page.addScriptTag({ content: javaScript });
    await eventually('both streams are open', async () => await gateway.metric('ssegate_streams') === 2);

    const php = command(document, 'php -r').replace('6380', portOf(gateway, 'bus'));
    await promisify(execFile)('/bin/sh', ['-c', php]);
    await eventually('the line is in the console', () => lines.includes('hello'));
    await eventually('it is on the demo page', async () => (await page.locator('#events').innerText()).includes('hello'));
    // The stream ends, and the script says so.
    gateway.child.kill('SIGTERM');
    await eventually('the end is in the console', () => lines.includes('disconnected, reconnecting'));
  });

  test(`${document}: its index.php behind ssegate shows in one window what another sends`, { timeout: 120_000 }, async (t) => {
    const [bus, port, home] = [await freePort(), await freePort(), directory(t)];
    const [source] = blocks(document, 'php');
    writeFileSync(join(home, 'index.php'), source.replace('6380', `${bus}`));
    const [php, ...served] = command(document, 'php -S').replace('8000', `${port}`).split(' ');
    start(t, `/usr/bin/${php}`, served, { cwd: home });
    const [, ...args] = command(document, 'target/release/ssegate dev').replace('8000', `${port}`).split(' ');
    const more = PORTS.map((word, index) => (PORTS[index - 1] === '--bus-port' ? `${bus}` : word));
    const gateway = await run(t, [...args, ...more], directory(t));
    const browser = await openBrowser(t);
    const open = async () => {
      const page = await browser.newPage();
      await eventually('PHP serves the page', async () => (await page.goto(gateway.http)).status() === 200);
      return page;
    };
    const [one, other] = [await open(), await open()];
    await eventually('both streams are open', async () => await gateway.metric('ssegate_streams') === 2);
    await eventually('the channel is followed', async () => await gateway.metric('ssegate_channels') === 1);
    await one.fill('input', 'from one window');
    await one.click('button');
    for (const page of [one, other]) {
      await eventually('it is shown', async () => await page.locator('pre').innerText() === 'from one window\n');
    }
    mkdirSync(ARTIFACTS, { recursive: true });
    await other.screenshot({ path: join(ARTIFACTS, `${document}.png`) });
  });
}

test('the function of the troubleshooting page comes back after a status at which EventSource gives up', { timeout: 120_000 }, async (t) => {
  const statuses = [503, 200];
  const server = createServer((request, response) => {
    if (request.url !== '/stream') return response.end('<!doctype html><title>a page</title>');
    response.writeHead(statuses.shift() ?? 204, { 'content-type': 'text/event-stream' });
    return response.end('retry: 60000\ndata: back again\n\n');
  });
  server.listen(0, '127.0.0.1');
  t.after(() => { server.close(); server.closeAllConnections(); });
  await once(server, 'listening');
  const page = await (await openBrowser(t)).newPage();
  const lines = [];
  page.on('console', (line) => lines.push(line.text()));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const [follow] = blocks('docs/TROUBLESHOOTING.md', 'js');
  await page.addScriptTag({ content: `${follow}\nfollow('/stream');` });
  await eventually('it has come back', () => lines.includes('back again'));
  assert.deepEqual(statuses, []);
});
