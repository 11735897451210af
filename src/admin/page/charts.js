// The charts: the last five minutes of some figures.

import * as format from './format.js';

const SECONDS = 300;
const uPlot = window.uPlot;
const isCalm = matchMedia('(prefers-reduced-motion: reduce)');

/** A chart in the element `chart-{name}`. `read` makes text of a value, and `least` is the smallest top of its scale. */
export class Chart {
  constructor(name, series, { read, least }) {
    this.place = document.getElementById(`chart-${name}`);
    this.reading = document.getElementById(`read-${name}`);
    this.series = series;
    this.read = read;
    this.least = least;
    this.data = [[], ...series.map(() => [])];
    this.drawn = 0;
    this.build();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.build());
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.place);
  }

  /** Adds the values of a second; `null` where there are none. */
  add(now, values) {
    const [times] = this.data;
    times.push(now);
    values.forEach((value, place) => this.data[place + 1].push(value ?? null));
    while (times[0] < now - SECONDS) this.data.forEach((column) => column.shift());
    // What moves each second is motion.
    if (isCalm.matches && now - this.drawn < 5) return;
    this.drawn = now;
    this.plot.setData(this.data);
  }

  /** Leaves a gap: nothing is known of the time that follows. */
  gap() {
    const last = this.data[0].at(-1);
    if (last && this.data[1].at(-1) !== null) this.add(last + 0.5, this.series.map(() => null));
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 100), height: 150 };
  }

  build() {
    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const font = '11px system-ui, sans-serif';
    const axis = { stroke: color('--quiet'), font, grid: { stroke: color('--line'), width: 1 }, ticks: { show: false } };
    this.plot?.destroy();
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      padding: [8, 16, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: (_, least, most) => [(most ?? SECONDS) - SECONDS, most ?? SECONDS] },
        y: { range: (_, least, most) => [0, Math.max((most ?? 0) * 1.1, this.least)] },
      },
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 24, values: (_, ticks) => ticks.map((tick) => format.time(tick).slice(0, 5)), incrs: [60, 120] },
        { ...axis, size: 58, space: 32, values: (_, ticks) => ticks.map((tick) => this.read(tick)) },
      ],
      series: [{}, ...this.series.map((label, place) => ({
        label, stroke: color(place ? '--two' : '--one'), width: 1.6, points: { show: false },
      }))],
      hooks: { setCursor: [(plot) => this.show(plot.cursor.idx)] },
    }, this.data, this.place);
  }

  show(place) {
    const at = place === null || place === undefined ? undefined : this.data[0][place];
    const values = this.data.slice(1).map((column) => this.read(column[place]));
    this.reading.textContent = at ? `${format.time(at)}  ${values.join(' · ')}` : '';
  }
}
