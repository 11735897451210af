// The ten lines that make a chat over fetch survive what happens to connections.

/** Calls onEvent({ id, data }) for each event, across as many connections as it takes. */
export async function chat(url, init, onEvent) {
  let response = await fetch(url, init), last = '';
  const location = response.headers.get('location'), address = location && new URL(location, response.url);
  const headers = () => ({ ...init.headers, ...(last && { 'last-event-id': last }) });
  while (response.status !== 204) {  // 204: it has ended, and all was read
    if (!response.ok && (response.status < 500 || !address)) throw new Error(`no chat: ${response.status}`);
    try {
      if (response.ok) for await (const event of events(response.body)) { last = event.id; onEvent(event); }
      if (response.ok) return;
    } catch (cut) { if (!address) throw cut; }
    do {
      await new Promise((resolve) => setTimeout(resolve, 500));
      response = await fetch(address, { headers: headers() }).catch(() => null);
    } while (!response);
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
