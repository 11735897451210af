// Numbers, times and bytes as people read them, each with its unit.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/** A count. */
export const count = (value) => (value === null || value === undefined ? '–' : whole.format(value));

/** How many a second. */
export function rate(value) {
  if (value === null || value === undefined) return '–';
  return value < 9.95 ? three.format(Math.round(value * 10) / 10) : whole.format(value);
}

/** Bytes: the number and the unit. */
export function bytes(value) {
  if (value === null || value === undefined) return ['–', ''];
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1024;
  return [unit === 0 ? whole.format(value) : three.format(value), units[unit]];
}

/** A short time in seconds: the number and the unit. */
export function latency(seconds) {
  if (seconds === null || seconds === undefined) return ['–', ''];
  if (seconds < 0.001) return [three.format(seconds * 1e6), 'µs'];
  if (seconds < 1) return [three.format(seconds * 1e3), 'ms'];
  return [three.format(seconds), 's'];
}

/** A time in seconds, in its two largest units. */
export function span(seconds) {
  if (seconds < 1) return '< 1 s';
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([size]) => seconds >= size);
  const [size, name] = units[first];
  const main = Math.floor(seconds / size);
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds - main * size) / next[0]) : 0;
  return rest && main < 100 ? `${main} ${name} ${rest} ${next[1]}` : `${whole.format(main)} ${name}`;
}

const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' });
const both = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** The time of a moment in seconds of Unix time; with the date if that is another one than today. */
export function moment(unix) {
  const date = new Date(unix * 1000);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : both.format(date);
}

/** A text with the times in it (RFC 3339, UTC) as the clock of who reads it has them. */
export const local = (text) => text.replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, (time) => moment(Date.parse(time) / 1000));

/** The date of a moment. */
export const date = (unix) => day.format(new Date(unix * 1000));

/** The time of day. */
export const time = (unix) => clock.format(new Date(unix * 1000));
