// The box that follows a channel: events with their names and ids, as they pass; and what publishes, if it may.
// What comes from outside becomes text, never HTML.

import * as format from './format.js';
import { open } from './stream.js';

const MAX_EVENTS = 200;
const MAX_SHOWN = 2000;
/** A channel without events is kept alive with a comment, as its route says. */
const SILENCE = 90000;

const find = (id) => document.getElementById(id);
const list = find('events');
let close = null;
// What is followed: the channel, the query of the page, and the id of the last event.
let place = null;
let waiting = [];
let received = 0;
let isHeld = false;

function state(text, kind = '') {
  find('follow-state').textContent = text;
  find('follow-state').className = `state ${kind}`;
}

function row({ name, data, id }, at) {
  const item = document.createElement('li');
  const part = (tag, text, place, title = '') => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (title) made.title = title;
    place.append(made);
    return made;
  };
  if (name === 'gap') item.className = 'gap';
  part('time', format.time(at), item);
  const content = part('div', '', item);
  const head = part('div', '', content);
  head.className = 'head';
  part('b', name, head, 'The name of the event');
  if (id) part('span', `id ${id}`, head, 'Its id: a client that comes back with it is sent what came after');
  const more = data.length - MAX_SHOWN;
  part('pre', more > 0 ? `${data.slice(0, MAX_SHOWN)} … ${format.count(more)} characters more` : data, content);
  return item;
}

function show() {
  const rows = waiting.map(([event, at]) => row(event, at)).reverse();
  waiting = [];
  list.prepend(...rows);
  while (list.children.length > MAX_EVENTS) list.lastChild.remove();
}

function take(event) {
  received += 1;
  place[2] = event.id;
  waiting.push([event, Date.now() / 1000]);
  if (waiting.length > MAX_EVENTS) waiting.shift();
  if (!isHeld && waiting.length === 1) requestAnimationFrame(() => { if (!isHeld) show(); });
}

function hold(held) {
  isHeld = held;
  find('hold').setAttribute('aria-pressed', String(held));
  if (!held) show();
}

function stop() {
  close?.();
  close = null;
  place = null;
  for (const id of ['stop', 'hold', 'clear']) find(id).hidden = true;
}

/** Follows this channel from now on. */
export function follow(channel, query) {
  stop();
  hold(false);
  [waiting, received] = [[], 0];
  list.replaceChildren();
  find('channel').value = channel;
  place = [channel, query, ''];
  state(`Connecting to ${channel}`);
  goOn();
}

/** Leaves the channel while nobody sees the page. */
export function pause() {
  close?.();
  close = null;
}

/** Follows the channel again, from the last event on, as far as the gateway has kept it. */
export function goOn() {
  if (!place || close) return;
  const [channel, query, id] = place;
  const url = new URL('/status/follow', location);
  url.search = query;
  url.searchParams.set('channel', channel);
  close = open(url, {
    id,
    silence: SILENCE,
    onOpen() {
      for (const id of ['stop', 'hold', 'clear']) find(id).hidden = false;
      list.hidden = false;
      state(`Following ${channel}: what is published from now on stands here.`, 'good');
    },
    onEvent: take,
    onLost(why, isFinal) {
      state(isFinal ? why : `Lost: ${why}. Trying again.`, 'bad');
      if (isFinal) stop();
    },
  });
}

async function publish(event) {
  event.preventDefault();
  const channel = find('channel').value;
  const url = new URL(`/publish/${encodeURIComponent(channel)}`, location);
  if (find('name').value) url.searchParams.set('event', find('name').value);
  try {
    const response = await fetch(url, { method: 'POST', body: find('data').value, headers: { 'content-type': 'text/plain' } });
    const text = (await response.text()).trim();
    if (response.ok) state(`Published to ${channel} at ${format.time(Date.now() / 1000)}.`, 'good');
    else state(text, 'bad');
  } catch {
    state('Not published: the gateway cannot be reached.', 'bad');
  }
}

/** Whether the box publishes, and whether it follows. */
export function allow({ publishes, isPrivate }) {
  find('publish').hidden = !publishes;
  find('follow').hidden = !isPrivate;
  if (!isPrivate) find('follow-hint').textContent = 'Channels are followed here only if admin.address is on loopback, or with admin.auth.';
}

/** Makes the box work. `query` is what the page was opened with. */
export function start(query) {
  find('follow').addEventListener('submit', (event) => {
    event.preventDefault();
    follow(find('channel').value, query);
  });
  find('publish').addEventListener('submit', publish);
  find('stop').addEventListener('click', () => {
    stop();
    state(`Stopped after ${format.count(received)} events.`);
    find('channel').focus();
  });
  find('hold').addEventListener('click', () => hold(!isHeld));
  find('clear').addEventListener('click', () => list.replaceChildren());
}
