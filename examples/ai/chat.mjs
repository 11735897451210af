// The ten lines that make a chat over fetch survive what happens to connections.

/** Calls onEvent({ id, data }) for each event, across as many connections as it takes. */
export async function chat(url, init, onEvent) {
  let response = await fetch(url, init), last = '';
  const address = new URL(response.headers.get('location'), response.url);
  const headers = () => ({ ...init.headers, ...(last && { 'last-event-id': last }) });
  for (;;) {
    try {
      for await (const event of events(response.body)) { last = event.id; onEvent(event); }
      return;
    } catch { /* it was cut */ }
    do {
      await new Promise((resolve) => setTimeout(resolve, 500));
      response = await fetch(address, { headers: headers() }).catch(() => null);
    } while (!response);
    if (response.status !== 200) return;
  }
}

/** The events of a stream, as far as a chat needs them. */
async function* events(body) {
  let text = '';
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + part).split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const of = (name) => block.split(/\r?\n/).filter((line) => line.startsWith(`${name}: `))
        .map((line) => line.slice(name.length + 2));
      if (of('data').length) yield { id: of('id').at(-1), data: of('data').join('\n') };
    }
  }
}
