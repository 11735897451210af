// The status page: what the gateway says of itself, once a second.
// Everything that is shown is set as text: names of channels and errors come from outside.

import { Chart } from './charts.js';
import * as box from './follow.js';
import * as format from './format.js';
import { open } from './stream.js';

/** Reports come each second. */
const SILENCE = 6000;
/** From so many days on, the end of a certificate is near. */
const NEAR_DAYS = 14;

const find = (id) => document.getElementById(id);
const text = (id, value) => { if (find(id).textContent !== value) find(id).textContent = value; };
const query = location.search;

const figures = {
  streams: new Chart('streams', ['open'], { read: format.count, least: 4 }),
  events: new Chart('events', ['in', 'out'], { read: format.rate, least: 5 }),
  latency: new Chart('latency', ['median', 'p99'], { read: (value) => format.latency(value).join(' '), least: 0.001 }),
};

/** Rows by key. `ended`, of a table with buttons, says what becomes of a row that is gone while somebody is about to
 *  press one. A cell is a text, or an object with `text`, and perhaps `kind`, `title`, `onPress`. */
class Table {
  constructor(id, isEmpty, ended) {
    this.table = find(id);
    this.body = this.table.tBodies[0];
    this.empty = this.table.parentElement.querySelector('.empty');
    this.isEmpty = isEmpty;
    this.ended = ended;
    this.rows = new Map();
  }

  /** Whether somebody is about to press something in it: then nothing moves. */
  get isInUse() {
    return this.body.contains(document.activeElement) || this.body.matches(':hover');
  }

  show(entries) {
    const isHeld = Boolean(this.ended) && this.rows.size > 0 && this.isInUse;
    const keys = new Set(entries.map(([key]) => key));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      if (isHeld) this.ended(row);
      else { row.remove(); this.rows.delete(key); }
    }
    entries.forEach(([key, ...cells], place) => {
      let row = this.rows.get(key);
      if (!row) {
        if (isHeld) return;
        row = document.createElement('tr');
        this.rows.set(key, row);
      }
      cells.forEach((cell, column) => this.fill(row, column, cell));
      if (!isHeld && this.body.rows[place] !== row) this.body.insertBefore(row, this.body.rows[place] ?? null);
    });
    this.table.hidden = this.rows.size === 0;
    if (this.empty) {
      this.empty.hidden = this.rows.size > 0;
      if (this.empty.textContent !== this.isEmpty) this.empty.textContent = this.isEmpty;
    }
  }

  fill(row, column, cell) {
    const { text: value, kind = '', title = '', onPress } = typeof cell === 'object' ? cell : { text: cell };
    let place = row.cells[column];
    if (!place) {
      const head = this.table.tHead?.rows[0].cells[column];
      place = row.appendChild(document.createElement(column === 0 && !head ? 'th' : 'td'));
      if (place.tagName === 'TH') place.scope = 'row';
      place.dataset.base = head?.className ?? '';
      if (onPress) {
        const button = place.appendChild(document.createElement('button'));
        button.type = 'button';
        button.className = 'link';
      }
    }
    place.className = `${place.dataset.base} ${kind}`.trim();
    if (place.title !== title) place.title = title;
    const inside = onPress ? place.firstChild : place;
    if (onPress) inside.onclick = onPress;
    if (inside.textContent !== value) inside.textContent = value;
  }
}

const tables = {
  busiest: new Table('busiest', 'No messages in the last second.', (row) => { row.cells[1].textContent = '0'; }),
  slowest: new Table('slowest', 'Nobody is behind.'),
  streams: new Table('streams', 'No stream is open.'),
  closed: new Table('closed', 'No stream has been closed yet.'),
  outages: new Table('outages', ''),
  requests: new Table('requests', 'No request in the last ten seconds.'),
  failures: new Table('failures', ''),
  upstreams: new Table('upstreams', 'No request was forwarded yet, or no route has a backend.'),
  certificates: new Table('certificates', 'No listener has TLS.'),
  more: new Table('more', ''),
};

const pair = (id, [value, unit]) => { text(id, value); text(`${id}-unit`, unit); };
const share = (part, whole) => `${Math.round((part / whole) * 1000) / 10}%`;
const size = (value) => format.bytes(value).join(' ');
const said = new Map();

/** Tells a screen reader of a change; not of what stays. */
function announce(about, words) {
  if (said.has(about) && said.get(about) !== words) find('announcer').textContent = words;
  said.set(about, words);
}

function showVerdict(report) {
  const failing = report.checks.filter((check) => !check.passes && check.name !== 'drain');
  const warnings = [...report.checks.filter((check) => check.degraded), ...report.warnings];
  let [kind, words] = ['good', 'Serving'];
  if (failing.length) [kind, words] = ['bad', 'Not ready'];
  else if (warnings.length) [kind, words] = ['wait', 'Serving, with problems'];
  if (report.draining) [kind, words] = ['wait', 'Stopping'];
  text('verdict', words);
  find('verdict').className = `pill ${kind}`;
  announce('verdict', words);
  const problems = [...failing, ...warnings];
  find('problems').hidden = problems.length === 0;
  find('problems').className = `notice ${failing.length ? 'bad' : 'wait'}`;
  const lines = problems.map(({ about, detail }) => {
    const line = document.createElement('li');
    const name = line.appendChild(document.createElement('b'));
    name.textContent = about;
    line.append(`: ${format.local(detail ?? 'failed')}`);
    return line;
  });
  const list = find('problem-list');
  if (list.textContent !== lines.map((line) => line.textContent).join('')) list.replaceChildren(...lines);
}

function showNumbers(report) {
  const { rates, latency, limits } = report;
  const sum = (of) => Object.values(of).reduce((all, one) => all + one, 0);
  text('open', format.count(report.open));
  text('open-more', `on ${format.count(sum(report.connections))} connection${sum(report.connections) === 1 ? '' : 's'}`);
  text('in', format.rate(rates.in));
  text('out', format.rate(rates.out));
  text('out-more', rates.bytes ? `${size(rates.bytes)}/s, once per stream` : 'written, once per stream');
  text('source-name', report.source.embedded ? 'the embedded bus' : 'Redis');
  text('channels', format.count(report.channels));
  pair('p50', format.latency(latency.p50));
  pair('p99', format.latency(latency.p99));
  pair('queues', format.bytes(report.queues));
  pair('histories', format.bytes(report.histories));
  if (limits) {
    text('channels-more', `followed, of at most ${format.count(limits.channels)}`);
    text('queues-more', `wait for clients, ${share(report.queues, limits.queues)} of ${size(limits.queues)}`);
    text('histories-more', `the past of channels, ${share(report.histories, limits.histories)} of ${size(limits.histories)}`);
  }
  figures.streams.add(report.now, [report.open]);
  figures.events.add(report.now, [rates.in, rates.out]);
  figures.latency.add(report.now, [latency.p50, latency.p99]);
}

function showChannels({ busiest, slowest, private: isPrivate }) {
  const hint = 'Shown only if admin.address is on loopback, or with admin.auth.';
  for (const table of [tables.busiest, tables.slowest]) if (!isPrivate) table.isEmpty = hint;
  tables.busiest.show((busiest ?? []).map(({ channel, rate, readers, known_as: name }) => {
    const press = name && { onPress: () => { box.follow(name, query); find('follow-title').scrollIntoView({ block: 'nearest' }); } };
    return [channel, { text: channel, title: name ? 'Follow this channel' : '', ...press }, format.rate(rate), format.count(readers)];
  }));
  tables.slowest.show((slowest ?? []).map(({ client, route, channel, channels, behind, queued }, place) => [
    `${client} ${route} ${place}`, { text: client, kind: 'mono', title: 'A hash of the address, the same for all streams of a client until the gateway is started again' },
    route ?? 'removed by a reload', `${channel ?? '–'}${channels > 1 ? ` and ${channels - 1} more` : ''}`, format.latency(behind).join(' '), size(queued),
  ]));
}

const names = { h1: 'HTTP/1.1', h2: 'HTTP/2' };

function showStreams(report) {
  const open = [...report.streams].sort((one, other) => other.open - one.open).slice(0, 12);
  tables.streams.show(open.map(({ route, protocol, open: streams }) => [`${route} ${protocol}`, route, names[protocol] ?? protocol, format.count(streams)]));
  const closed = Object.entries(report.closed).filter(([, streams]) => streams > 0);
  closed.sort((one, other) => other[1] - one[1]);
  tables.closed.show(closed.map(([reason, streams]) => [reason, reason.replaceAll('_', ' '), format.count(streams)]));
}

function showSource({ source, now, draining }) {
  const name = source.embedded ? 'The embedded bus' : 'Redis';
  text('source-title', source.embedded ? 'Embedded bus' : 'Redis');
  const state = source.ready ? `${name} is connected, and everything is followed.` : `${name} is away.`;
  text('source-state', draining ? 'This gateway is stopping.' : state);
  find('source-state').className = `state ${source.ready ? 'good' : 'bad'}`;
  if (!draining) announce('source', state);
  tables.outages.isEmpty = source.embedded ? 'It is part of the gateway: it cannot be away.' : 'It was never away since the start.';
  tables.outages.show(source.outages.map(({ source: of, began, ended, cause, failures }) => [
    `${of} ${began}`, format.moment(began), { text: format.span((ended ?? now) - began), kind: ended ? '' : 'bad' },
    { text: `${of === 'Redis' ? '' : `${of}: `}${cause ?? 'unknown'}`, title: `${format.count(failures)} failures until it was back` },
  ]));
}

/** What requests wait for is worth a word once nothing came for a while. */
const waits = ({ waiting, silent }) => (waiting && silent >= 2 ? `${format.count(waiting)} wait, none was answered for ${format.span(silent)}` : '');

function showBackends({ upstreams, requests, now }) {
  tables.requests.show(requests.map(({ route, rate, errors }) => {
    let kind = errors > 0.05 ? 'wait' : '';
    if (errors > 0.5) kind = 'bad';
    return [route, route, format.rate(rate), { text: share(errors, 1), kind }];
  }));
  tables.upstreams.show(upstreams.list.map((it) => {
    const problems = it.problems.map(format.local).join('; ');
    let state = { text: waits(it) ? `up; ${waits(it)}` : 'up', kind: 'good' };
    if (problems || !it.reachable) state = { text: problems || 'unreachable', kind: it.reachable ? 'wait' : 'bad' };
    return [`${it.route} ${it.upstream}`, it.upstream, it.route, state];
  }));
  tables.failures.show(upstreams.failures.map(({ upstream, route, began, ended, cause, failures }) => [
    `${route} ${upstream} ${began}`, format.moment(began), { text: format.span((ended ?? now) - began), kind: ended ? '' : 'bad' },
    `${upstream}, ${route}`, `${cause ?? 'unknown'}; ${format.count(failures)} times`,
  ]));
}

/** A sum, and what it is made of: `600: 590 redis away, 10 expired`. */
function reasons(counts, empty) {
  const some = Object.entries(counts).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  const sum = some.reduce((all, [, count]) => all + count, 0);
  return sum ? `${format.count(sum)}: ${some.map(([reason, count]) => `${format.count(count)} ${reason.replaceAll('_', ' ')}`).join(', ')}` : empty;
}

/** How long a certificate is valid: in hours where that is not long. */
function left(seconds) {
  if (seconds < 0) return 'expired';
  const [unit, name] = seconds < 3 * 86400 ? [3600, 'hour'] : [86400, 'day'];
  const whole = Math.floor(seconds / unit);
  return `${format.count(whole)} ${name}${whole === 1 ? '' : 's'}`;
}

/** What there is of each: `3 entries, 1 of them gaps`. */
const listed = (parts) => parts.filter(([count]) => count > 0).map(([count, words]) => `${format.count(count)} ${words}`).join(', ');

/** Rows of what only some routes have. */
function perhaps({ recorded: log, members, webhooks: { results, waiting } }) {
  return [
    ['Recorded', listed([[log.entries, 'entries'], [log.gaps, 'of them gaps'], [log.dropped, 'messages not recorded'], [log.waiting, 'bytes wait']])],
    ['Members', listed([[members, 'known, once for each channel']])],
    ['Webhooks', listed([[results.delivered, 'delivered'], [results.retried, 'tried again'], [results.given_up, 'given up'], [waiting, 'wait']])],
  ].filter(([, value]) => value);
}

function showRest(report) {
  tables.certificates.show(report.certificates.map(({ listener, file, ends }) => {
    const days = (ends - report.now) / 86400;
    let kind = days < NEAR_DAYS ? 'wait' : '';
    if (days < 3) kind = 'bad';
    return [`${listener} ${file}`, file, listener, format.date(ends), { text: left(ends - report.now), kind }];
  }));
  const { success, failure } = report.certificate_reloads;
  find('reloads').hidden = !success && !failure;
  text('reloads', `Read again since the start: ${format.count(success)}${failure ? `; in vain: ${format.count(failure)}` : ''}.`);
  const kept = listed(Object.entries(report.kept.states).map(([state, streams]) => [streams, state]));
  const fleet = report.checks.find((check) => check.name === 'fleet');
  const cluster = report.checks.find((check) => check.name === 'cluster');
  const fleetProblem = report.warnings.find((warning) => warning.about === 'fleet');
  const rows = [
    ['Subscriptions', `${format.count(report.subscriptions)}: the channels of all open streams`],
    ['Gaps', reasons(report.gaps, 'no stream was told that events may be missing')],
    ['Events dropped', reasons(report.dropped, 'none')],
    ['Kept streams', kept ? `${kept}; ${size(report.kept.bytes)}` : 'none'],
    ...perhaps(report),
    ...(cluster ? [['Redis Cluster', cluster.detail]] : []),
    ['Fleet', fleetProblem?.detail ?? fleet?.detail ?? 'on its own'],
    ['Connections', Object.entries(report.connections).filter(([, open]) => open).map(([protocol, open]) => `${format.count(open)} ${names[protocol] ?? protocol}`).join(', ') || 'none'],
    ['Listens on', report.urls.join('  ')],
  ];
  tables.more.show(rows.map(([name, value]) => [name, name, value]));
}

function show(report) {
  text('version', report.version);
  showVerdict(report);
  showNumbers(report);
  showChannels(report);
  showStreams(report);
  showSource(report);
  showBackends(report);
  showRest(report);
  box.allow({ publishes: report.publishes, isPrivate: report.private });
}

function feed(kind, words) {
  text('feed-text', words);
  find('feed').className = `feed ${kind}`;
}

let lostSince = null;
let close = null;

function lost(why) {
  lostSince ??= Date.now() / 1000;
  const words = `The connection to the gateway is lost since ${format.moment(lostSince)}: ${why}. What is shown is from before. Trying again.`;
  text('lost', words);
  find('lost').hidden = false;
  feed('lost', 'Connection lost');
  announce('feed', 'The connection to the gateway is lost.');
  for (const chart of Object.values(figures)) chart.gap();
}

function isBack() {
  lostSince = null;
  find('lost').hidden = true;
  feed('live', 'Live');
  announce('feed', 'Connected to the gateway.');
}

function start() {
  let isStopping = false;
  close = open(`/status/events${query}`, {
    silence: SILENCE,
    onOpen() {},
    onEvent(event) {
      const report = JSON.parse(event.data);
      isStopping = report.draining;
      isBack();
      show(report);
    },
    onLost(why, isFinal) {
      // While it drains, a stream is one report.
      if (isStopping && !isFinal) { isStopping = false; return; }
      lost(why);
    },
  });
}

// A page that nobody sees costs nothing.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    close?.();
    close = null;
    box.pause();
    feed('', 'Paused: this tab is hidden');
    for (const chart of Object.values(figures)) chart.gap();
  } else if (!close) {
    feed('', 'Connecting');
    start();
    box.goOn();
  }
});

box.start(query);
if (!document.hidden) start();
