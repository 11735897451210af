// Follows a stream with Chromium's own EventSource, in a page of the same origin: chromium.cjs URL
//
// Over TLS Chromium speaks HTTP/2 unless it is told not to.

const { mkdtempSync, rmSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { chromium } = require('playwright-core');
const { print, url } = require('./print.cjs');

async function main() {
  const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  if (!process.env.HTTP2) args.push('--disable-http2');
  const profile = mkdtempSync(join(tmpdir(), 'ssegate-chromium-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
    headless: true,
    ignoreHTTPSErrors: true,
    args,
  });
  process.on('SIGTERM', async () => {
    await browser.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    process.exit(0);
  });
  const page = await browser.newPage();
  await page.exposeFunction('seen', print);
  await page.goto(new URL('/page', url).href);
  await page.evaluate((path) => {
    const source = new EventSource(path);
    for (const name of ['message', 'tick', 'gap']) {
      source.addEventListener(name, ({ data, lastEventId }) => window.seen({ event: name, data, id: lastEventId }));
    }
  }, new URL(url).pathname);
}

main();
