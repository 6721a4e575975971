"use strict";
// What moves on the page: tables that are sorted by a click on a heading, and points that are moved by a slider.

// ---- Tables

/** The number that a cell begins with: "1,234", "0.31 ± 0.02", "(4.0 ± 0.2)e-07", "1.04 ×"; NaN if it has none. */
function numberIn(text) {
  const plain = text.replace(/[,●○\s]/g, "").replace("−", "-");
  const found = plain.match(/^\(?(-?\d*\.?\d+(?:e[+-]?\d+)?)/);
  const power = plain.match(/\)e([+-]?\d+)/);
  return found ? Number(found[1]) * 10 ** Number(power ? power[1] : 0) : NaN;
}

/** Sort the rows by a column, numbers by size and other cells by their letters; empty cells stay last. */
function sortRows(table, column, descending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
  const empty = (one) => one.text === "" || one.text === "–";
  const numeric = rows.every((one) => empty(one) || !Number.isNaN(numberIn(one.text)));
  const compare = numeric
    ? (a, b) => numberIn(a.text) - numberIn(b.text)
    : (a, b) => a.text.localeCompare(b.text, undefined, { numeric: true });
  rows.sort((a, b) => empty(a) - empty(b) || (empty(a) ? 0 : (descending ? -1 : 1) * compare(a, b)));
  body.append(...rows.map((one) => one.row));
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const descending = cell.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table, column, descending);
    });
  });
}

// ---- Points in time

const STEPS = 65535; // between the limits of an axis
const TRAILS = 40; // points whose paths are drawn
const NEAR = 24; // pixels, within which the pointer finds a point
const FEW = 200; // points, which are drawn larger
const SECONDS = 5; // that the whole way takes
const MARGIN = { left: 62, right: 12, top: 10, bottom: 44 };

function decoded(text) {
  return new Uint16Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

/** About five round numbers between low and high. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

const written = (value) => String(Number(value.toPrecision(4)));
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A colour between two of the form #rrggbb. */
function mixed(first, second, share) {
  const parts = (colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  const [a, b] = [parts(first), parts(second)];
  return `rgb(${a.map((value, k) => Math.round(value + share * (b[k] - value))).join(" ")})`;
}

/** Numbers of n points at some times, for each axis; see animation.py. */
class Paths {
  constructor(text, axes, times) {
    this.numbers = decoded(text);
    this.axes = axes;
    this.times = times;
    this.count = this.numbers.length / (axes.length * times.length);
  }

  /** The axis' value of a point at the k-th time; axis −1 is time itself. */
  at(axis, k, point) {
    if (axis < 0) return this.times[k];
    const step = this.numbers[(axis * this.times.length + k) * this.count + point];
    const { low, high } = this.axes[axis];
    return low + (step / STEPS) * (high - low);
  }

  /** The same at any time, on the straight line between the two nearest. */
  between(axis, time, point) {
    if (axis < 0) return time;
    const after = Math.max(1, this.times.findIndex((one) => one >= time));
    const [start, end] = [this.times[after - 1], this.times[after]];
    const share = (time - start) / (end - start);
    return (1 - share) * this.at(axis, after - 1, point) + share * this.at(axis, after, point);
  }
}

class Animation {
  constructor(root, data) {
    this.root = root;
    this.times = data.times;
    this.axes = data.axes;
    this.alike = data.alike;
    this.samples = data.samples.map((one) => ({ ...one, paths: new Paths(one.points, data.axes, [one.time]) }));
    this.methods = data.methods.map(({ name, colour, forward, backward }) => ({
      name,
      colour,
      forward: new Paths(forward, data.axes, data.times),
      backward: new Paths(backward, data.axes, data.times),
    }));
    this.canvas = root.querySelector("canvas");
    this.tip = root.querySelector(".tip");
    this.playing = false;
    this.hovered = -1;
    this.listen();
    this.draw();
  }

  control(name) {
    return this.root.querySelector(`[name=${name}]`);
  }

  chosen(name) {
    return this.root.querySelector(`[name=${name}]:checked`).value;
  }

  // What the controls say.
  get first() {
    return this.times[0];
  }
  get last() {
    return this.times[this.times.length - 1];
  }
  get time() {
    return this.first + (Number(this.control("time").value) / 1000) * (this.last - this.first);
  }
  get forward() {
    return this.chosen("direction") === "forward";
  }
  get method() {
    return this.methods[Number(this.chosen("method"))];
  }
  get paths() {
    return this.forward ? this.method.forward : this.method.backward;
  }
  get across() {
    return Number(this.control("across").value);
  }
  get up() {
    return Number(this.control("up").value);
  }

  listen() {
    const redraw = () => this.draw();
    for (const control of this.root.querySelectorAll("input, select")) control.addEventListener("input", redraw);
    this.control("time").addEventListener("input", () => (this.playing = false));
    this.control("play").addEventListener("click", () => this.play());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.hover(-1));
    new ResizeObserver(redraw).observe(this.canvas.parentElement);
    for (const media of ["print", "(prefers-color-scheme: dark)"]) matchMedia(media).addEventListener("change", redraw);
  }

  play() {
    this.playing = !this.playing;
    const slider = this.control("time");
    const [start, end] = this.forward ? [0, 1000] : [1000, 0];
    if (Number(slider.value) === end) slider.value = start;
    const begin = performance.now() - (Math.abs(Number(slider.value) - start) / 1000) * SECONDS * 1000;
    const step = (now) => {
      const share = Math.min(1, Math.max(0, (now - begin) / (SECONDS * 1000)));
      if (this.playing) slider.value = start + share * (end - start);
      this.playing = this.playing && share < 1;
      this.draw();
      if (this.playing) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  // Where things are.
  limits(axis) {
    const margin = 0.04 * (this.last - this.first);
    return axis < 0 ? [this.first - margin, this.last + margin] : [this.axes[axis].low, this.axes[axis].high];
  }

  /** Functions from values to pixels. Axes of one unit have one scale, so that circles are round. */
  scales() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const inner = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    const ranges = [this.limits(this.across), this.limits(this.up)];
    const sizes = ranges.map(([low, high], k) => inner[k] / (high - low));
    const [sx, sy] = this.alike && this.across >= 0 ? [Math.min(...sizes), Math.min(...sizes)] : sizes;
    const middle = ranges.map(([low, high]) => (low + high) / 2);
    return {
      x: (value) => MARGIN.left + inner[0] / 2 + sx * (value - middle[0]),
      y: (value) => MARGIN.top + inner[1] / 2 - sy * (value - middle[1]),
      across: [middle[0] - inner[0] / 2 / sx, middle[0] + inner[0] / 2 / sx],
      up: [middle[1] - inner[1] / 2 / sy, middle[1] + inner[1] / 2 / sy],
      inner,
    };
  }

  // Drawing.
  draw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const ratio = Math.max(2, window.devicePixelRatio);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const scales = this.scales();
    const colour = colourOf(this.method.colour);
    this.drawAxes(pen, scales, width, height);
    this.drawSamples(pen, scales);
    if (this.control("trails").checked) this.drawTrails(pen, scales, colour);
    this.drawPoints(pen, scales, colour);
    if (this.hovered >= 0) this.drawPath(pen, scales, this.hovered, colourOf("--ink"), 2, this.first, this.last);
    this.say();
  }

  drawAxes(pen, scales, width, height) {
    const [left, bottom] = [MARGIN.left, height - MARGIN.bottom];
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    pen.strokeStyle = colourOf("--rule");
    pen.fillStyle = colourOf("--soft");
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const value of ticks(...scales.across)) {
      pen.strokeRect(scales.x(value), MARGIN.top, 0, scales.inner[1]);
      pen.fillText(written(value), scales.x(value), bottom + 6);
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const value of ticks(...scales.up)) {
      pen.strokeRect(left, scales.y(value), scales.inner[0], 0);
      pen.fillText(written(value), left - 6, scales.y(value));
    }
    pen.fillStyle = colourOf("--ink");
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    pen.fillText(fitted(pen, this.name(this.across), scales.inner[0]), left + scales.inner[0] / 2, height - 4);
    pen.save();
    pen.translate(14, MARGIN.top + scales.inner[1] / 2);
    pen.rotate(-Math.PI / 2);
    pen.textBaseline = "middle";
    pen.fillText(fitted(pen, this.name(this.up), scales.inner[1]), 0, -4);
    pen.restore();
  }

  name(axis) {
    return axis < 0 ? "time" : this.axes[axis].name;
  }

  drawSamples(pen, scales) {
    const ends = [colourOf("--x0"), colourOf("--x1")];
    for (const { time, paths } of this.samples) {
      pen.fillStyle = mixed(...ends, (time - this.first) / (this.last - this.first));
      pen.globalAlpha = 0.4;
      const radius = paths.count < FEW ? 4 : 2;
      for (let i = 0; i < paths.count; i++) dot(pen, scales, paths.at(this.across, 0, i), paths.at(this.up, 0, i), radius);
    }
    pen.globalAlpha = 1;
  }

  drawPoints(pen, scales, colour) {
    pen.fillStyle = colour;
    pen.globalAlpha = 0.85;
    const radius = this.paths.count < FEW ? 4 : 2.4;
    for (let i = 0; i < this.paths.count; i++) {
      const [x, y] = this.place(i);
      dot(pen, scales, x, y, i === this.hovered ? 2 * radius : radius);
    }
    pen.globalAlpha = 1;
  }

  drawTrails(pen, scales, colour) {
    const [start, end] = this.forward ? [this.first, this.time] : [this.time, this.last];
    pen.globalAlpha = 0.4;
    for (let i = 0; i < Math.min(TRAILS, this.paths.count); i++) this.drawPath(pen, scales, i, colour, 1, start, end);
    pen.globalAlpha = 1;
  }

  /** A point's path between two times. */
  drawPath(pen, scales, point, colour, width, start, end) {
    const times = [start, ...this.times.filter((time) => time > start && time < end), end];
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    for (const time of times) {
      const place = [this.across, this.up].map((axis) => this.paths.between(axis, time, point));
      pen.lineTo(scales.x(place[0]), scales.y(place[1]));
    }
    pen.stroke();
    pen.lineWidth = 1;
  }

  /** Where a point is now. */
  place(point) {
    return [this.across, this.up].map((axis) => this.paths.between(axis, this.time, point));
  }

  // Words.
  say() {
    const [time, way] = [`t = ${written(Number(this.time.toFixed(2)))}`, this.forward ? "forward" : "backward"];
    this.root.querySelector("output").value = time;
    this.control("play").textContent = this.playing ? "❚❚ Pause" : "▶ Play";
    this.root.querySelector(".count").textContent =
      `${this.paths.count.toLocaleString("en")} points at ${time}, moved ${way} by ${this.method.name}`;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const scales = this.scales();
    let [nearest, least] = [-1, NEAR];
    for (let i = 0; i < this.paths.count; i++) {
      const [across, up] = this.place(i);
      const distance = Math.hypot(scales.x(across) - x, scales.y(up) - y);
      if (distance < least) [nearest, least] = [i, distance];
    }
    this.hover(nearest);
    const [right, lower] = [box.width - this.tip.offsetWidth, box.height - this.tip.offsetHeight];
    this.tip.style.left = `${Math.max(0, Math.min(x + 14, right))}px`;
    this.tip.style.top = `${y + 14 < lower ? y + 14 : Math.max(0, y - 14 - this.tip.offsetHeight)}px`;
  }

  hover(point) {
    this.hovered = point;
    this.tip.hidden = point < 0;
    if (point >= 0) this.tip.replaceChildren(...this.lines(point).map(paragraph));
    this.draw();
  }

  /** What there is to say about a point. */
  lines(point) {
    const times = [this.first, this.time, this.last];
    const way = (axis) => times.map((time) => written(this.paths.between(axis, time, point))).join(" → ");
    const columns = this.axes.flatMap((axis, k) => (axis.column ? [`${axis.name}: ${way(k)}`] : []));
    return [`point ${point + 1} at t = ${times.map(written).join(" → ")}`, ...columns];
  }
}

function dot(pen, scales, x, y, radius) {
  pen.beginPath();
  pen.arc(scales.x(x), scales.y(y), radius, 0, 2 * Math.PI);
  pen.fill();
}

/** The beginning of a text that is not wider than there is room. */
function fitted(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  const most = [...text].findIndex((_, k) => pen.measureText(`${text.slice(0, k + 1)}…`).width > room);
  return `${text.slice(0, most)}…`;
}

function paragraph(text) {
  const made = document.createElement("p");
  made.textContent = text;
  return made;
}

// ---- Start

document.querySelectorAll("table").forEach(makeSortable);
const data = document.getElementById("animation-data");
if (data) new Animation(document.getElementById("animation"), JSON.parse(data.textContent));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
