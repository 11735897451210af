// Tabs of Chromium that are really hidden when another is shown. Playwright makes every page believe that it is in front.

import { once } from 'node:events';
import { WebSocket } from 'undici';

import { CHROMIUM, directory, eventually, start, within } from './support.js';

/** A Chromium, of which each tab is driven over the DevTools protocol alone. */
export async function openTabs(test) {
  const child = start(test, CHROMIUM, [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--remote-debugging-port=0', `--user-data-dir=${directory(test)}`, 'about:blank',
  ], { endSignal: 'SIGTERM' });
  const listening = () => child.log.match(/DevTools listening on ws:\/\/([^/]+)\//);
  await eventually('Chromium listens', () => {
    if (child.exitCode !== null) throw new Error(`Chromium has ended:\n${child.log}`);
    return listening();
  });
  const devTools = `http://${listening()[1]}/json`;
  return {
    /** A new tab, in front. */
    async open(url) {
      const target = await (await fetch(`${devTools}/new?${url}`, { method: 'PUT' })).json();
      const socket = new WebSocket(target.webSocketDebuggerUrl);
      await once(socket, 'open');
      const waiting = new Map();
      socket.addEventListener('message', ({ data }) => {
        const { id, ...answer } = JSON.parse(data);
        waiting.get(id)?.(answer);
      });
      let last = 0;
      const tab = {
        /** The value of an expression, once it is settled. */
        async evaluate(expression) {
          const id = last += 1;
          const params = { expression, returnByValue: true, awaitPromise: true };
          const answer = new Promise((resolve) => { waiting.set(id, resolve); });
          socket.send(JSON.stringify({ id, method: 'Runtime.evaluate', params }));
          // A question to a page that is about to be replaced is refused, or gets no answer at all.
          const { result, error } = await within(5000, expression, answer);
          const wrong = error ?? result.exceptionDetails;
          if (wrong) throw new Error(`${expression}: ${JSON.stringify(wrong)}`);
          return result.result.value;
        },
        /** Waits for an expression to be true, of this page or of the one that replaces it. */
        becomes: (what, expression) =>
          eventually(`the tab is ${what}`, () => tab.evaluate(expression).catch(() => false)),
        /** Shows it, and hides the one that was in front. */
        async show() {
          await fetch(`${devTools}/activate/${target.id}`);
          await tab.becomes('shown', '!document.hidden');
        },
      };
      await tab.show();
      // Before it is there, the tab has an empty page, which is loaded, too.
      const isThere = `location.href.startsWith(${JSON.stringify(url)}) && document.readyState === 'complete'`;
      await tab.becomes('loaded', isThere);
      return tab;
    },
  };
}
