// The front-end of every explorer. It knows nothing of kernels: a specification names the parameters,
// the fields of a table computed by kdlib, and the views; this module reads the table at the current
// parameters, draws it as SVG, and moves with native range inputs.
//
// Table: float32. A field holds, for each point of the grid, p coefficient blocks of `size` numbers; the value
// at s of the smooth parameter is their polynomial in s, exactly. Where a parameter does not change a field,
// the field's stride along it is 0. A live kernel sends the fields of one point, the constants left out.

const NS = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** New text in a node of its own, in place: an element that comes or goes would have the whole page's :has() rules asked again. */
function write(element, text) {
  if (!element.firstChild) element.append("");
  if (element.firstChild.data !== text) element.firstChild.data = text;
}

/** An attribute that is set only when it changes: the browser lays out and paints whatever is set. */
function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// ---------------------------------------------------------------- numbers as text

const raised = (text) => text.replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");

/** Three significant digits; what is below the accuracy of the table is said to be so. A count stands in full. */
export function format(value, whole = false) {
  const size = Math.abs(value);
  if (Number.isNaN(value)) return "–";
  if (size === Infinity) return value > 0 ? "∞" : "−∞";
  if (whole && size < 1e6) return value.toFixed(0).replace("-", "−");
  if (size < 1e-6) return "<\u00a010⁻⁶";
  if (size >= 1e-3 && size < 1e3) return value.toPrecision(3).replace("-", "−");
  const [digits, power] = value.toExponential(2).split("e");
  return `${digits.replace("-", "−")}·10${raised(String(Number(power)))}`;
}

function decimals(step) {
  return Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
}

// ---------------------------------------------------------------- the table

function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** The model's parameters and the fields at them: from the table, or off the grid from a live kernel. */
class Data {
  constructor(model) {
    this.model = model;
    this.spec = model.get("_spec");
    this.table = floats(model.get("_table"));
    this.grid = this.spec.parameters.filter((p) => p.values);
    this.smooth = this.spec.parameters.find((p) => !p.values);
    this.read = {}; // what each field was read from, and its numbers
  }

  /** The position on a grid parameter's slider that is nearest to its current value. */
  index(parameter) {
    const value = this.model.get(parameter.name);
    const { values } = parameter;
    let nearest = 0;
    for (let i = 1; i < values.length; i++) {
      if (Math.abs(values[i] - value) < Math.abs(values[nearest] - value)) nearest = i;
    }
    return nearest;
  }

  text(parameter) {
    const value = this.model.get(parameter.name);
    if (parameter.names?.length) return parameter.names[this.index(parameter)];
    const steps = parameter.values ? "" : value.toFixed(decimals(parameter.step));
    return Number(steps) === value && steps ? steps : String(Number(value.toPrecision(4)));
  }

  /** A field's numbers; the same array as long as nothing that it depends on has moved. */
  field(name) {
    const { offset, strides, record, size, coefficients, constant } = this.spec.fields[name];
    let source = this.table;
    let start = offset;
    const live = constant ? {} : this.model.get("_live");
    const fresh = live.record && this.grid.every((p) => live.at[p.name] === this.model.get(p.name));
    if (fresh) [source, start] = [(this.live ??= floats(live.record)), record];
    else this.grid.forEach((p, k) => strides[k] && (start += strides[k] * this.index(p)));
    const s = this.smooth && coefficients > 1 ? this.model.get(this.smooth.name) : 0;
    const before = this.read[name];
    if (before?.source === source && before.start === start && before.s === s) return before.out;
    let out = source.subarray(start, start + size);
    if (coefficients > 1) {
      out = new Float64Array(size);
      for (let j = coefficients - 1; j >= 0; j--) {
        for (let i = 0; i < size; i++) out[i] = out[i] * s + source[start + j * size + i];
      }
    }
    this.read[name] = { source, start, s, out };
    return out;
  }

  /** A field's one number as text, or the word that stands for it. */
  say(name) {
    const value = this.field(name)[0];
    return this.spec.words[name]?.[value] ?? format(value, this.spec.whole.includes(name));
  }

  sentence() {
    const fill = (_, name) => {
      const parameter = this.spec.parameters.find((p) => p.name === name);
      return parameter ? this.text(parameter) : this.say(name);
    };
    return this.spec.sentence.replace(/\{(\w+)\}/g, fill);
  }
}

// ---------------------------------------------------------------- scales and paths

function niceStep(span, count) {
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((k) => k * power >= raw * 0.999);
}

/** A map from data to pixels, with its ticks. Infinity has a place of its own behind a log axis. */
function makeScale(axis, from, to, room) {
  const log = axis.scale === "log";
  const t = log ? Math.log10 : (v) => v;
  const [lo, hi] = axis.domain.map(t);
  const end = axis.infinity ? to - 26 * Math.sign(to - from) : to;
  const scale = (v) => (v === Infinity ? to - 8 : from + ((t(v) - lo) / (hi - lo)) * (end - from));
  if (axis.ticks) {
    const every = Math.ceil((axis.ticks.length * room) / Math.abs(end - from));
    scale.ticks = axis.ticks.filter((_, i) => i % every === 0);
  } else if (log) {
    const every = Math.ceil(((hi - lo + 1) * room) / Math.abs(end - from));
    scale.ticks = [];
    for (let k = Math.ceil(lo); k <= hi; k += every) {
      scale.ticks.push([10 ** k, k === 0 ? "1" : `10${k === 1 ? "" : raised(String(k))}`]);
    }
  } else {
    const step = niceStep(hi - lo, Math.max(2, Math.abs(end - from) / room));
    scale.ticks = [];
    for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + 1e-9 * step; k++) {
      scale.ticks.push([k * step, (k * step).toFixed(decimals(step)).replace("-", "−")]);
    }
  }
  if (axis.infinity) scale.ticks.push([Infinity, "∞"]);
  return scale;
}

const FAR = 1e4; // pixels: outside of every frame

/** Writes a path in tenths of a pixel, each piece from where the last one ended: whole numbers of few digits. */
class Pen {
  text = "";

  move(x, y) {
    this.x = tenth(x);
    this.y = tenth(y);
    this.text += `M${this.x} ${this.y}`;
  }

  line(x, y) {
    const [u, v] = [tenth(x), tenth(y)];
    this.text += `l${u - this.x} ${v - this.y}`;
    this.x = u;
    this.y = v;
  }

  mark(symbol, x, y) {
    this.move(x, y);
    this.text += SYMBOLS[symbol];
  }

  curve(x1, y1, x2, y2, x, y) {
    const [u, v] = [tenth(x), tenth(y)];
    this.text += `c${tenth(x1) - this.x} ${tenth(y1) - this.y} ${tenth(x2) - this.x} ${tenth(y2) - this.y} ${u - this.x} ${v - this.y}`;
    this.x = u;
    this.y = v;
  }
}

const tenth = (pixels) => Math.round(10 * pixels); // less than the eye sees
const tenths = (dashes) => dashes.replace(/\d+/g, (pixels) => 10 * pixels);

/** A smooth path that does not overshoot its points (monotone cubic, Fritsch and Carlson); a value that is no number breaks it. */
function smoothPath(pen, xs, ys) {
  const n = xs.length;
  const gap = ys.findIndex((y) => Number.isNaN(y));
  if (gap >= 0) {
    if (gap > 0) smoothPath(pen, xs.slice(0, gap), ys.slice(0, gap));
    if (gap + 1 < n) smoothPath(pen, xs.slice(gap + 1), ys.slice(gap + 1));
    return;
  }
  pen.move(xs[0], ys[0]);
  if (n === 2) pen.line(xs[1], ys[1]);
  if (n < 3) return;
  const slopes = monotoneSlopes(n, (i) => (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]));
  for (let i = 0; i < n - 1; i++) {
    const h = (xs[i + 1] - xs[i]) / 3;
    pen.curve(xs[i] + h, ys[i] + h * slopes[i], xs[i + 1] - h, ys[i + 1] - h * slopes[i + 1], xs[i + 1], ys[i + 1]);
  }
}

/** A smooth way through points of the plane, in which neither coordinate overshoots. */
function smoothWay(pen, xs, ys) {
  const n = xs.length;
  const [u, v] = [xs, ys].map((zs) => monotoneSlopes(n, (i) => zs[i + 1] - zs[i]));
  pen.move(xs[0], ys[0]);
  for (let i = 0; i < n - 1; i++) {
    const j = i + 1;
    pen.curve(xs[i] + u[i] / 3, ys[i] + v[i] / 3, xs[j] - u[j] / 3, ys[j] - v[j] / 3, xs[j], ys[j]);
  }
}

/** Slopes at n points for a cubic that is monotone where the secants between neighbours are. */
function monotoneSlopes(n, secant) {
  const slopes = new Float64Array(n);
  for (let i = 1; i < n - 1; i++) {
    const [a, b] = [secant(i - 1), secant(i)];
    slopes[i] = a * b <= 0 ? 0 : (2 * a * b) / (a + b);
  }
  slopes[0] = secant(0);
  slopes[n - 1] = secant(n - 2);
  return slopes;
}

// Each is drawn around the place that the pen stands at; shape as well as colour tells the roles apart.
const SYMBOLS = {
  disc: "m40 0a40 40 0 1 1-80 0a40 40 0 1 1 80 0z",
  diamond: "m0-52l52 52l-52 52l-52-52z",
  cross: "m-38-38l76 76m-76 0l76-76",
  square: "m-44-44h88v88h-88z",
  bar: "m-60 0h120",
};

function symbolAttributes(layer) {
  const open = layer.symbol !== "disc";
  return {
    style: `${open ? "fill: none; stroke" : "stroke: none; fill"}: var(--kd-${layer.color})`,
    "stroke-width": 18,
  };
}

// ---------------------------------------------------------------- one view

class View {
  constructor(spec, data) {
    this.spec = spec;
    this.data = data;
    this.element = svg("svg", { role: "img", "aria-label": spec.description });
    this.box = html("div", { class: "kd-view", style: `--share:${spec.share ?? 1}` }, this.element);
  }

  /** Axes and empty layers for a width in pixels, so that text keeps its size on every screen. */
  layout() {
    const width = this.box.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    this.drawn = this.spec.layers.map(() => []); // the fields in each layer's path
    this.placed = {}; // and where their numbers stand across
    const { x, y } = this.spec;
    const height = Math.min(this.spec.height, Math.max(200, 0.6 * width));
    const [left, right, top, bottom] = [44, width - 10, 28, height - 40];
    this.x = makeScale(x, left + 6, right - 6, 34);
    this.y = makeScale(y, bottom, top, 26);
    const root = svg("g");
    for (const [value, label] of this.y.ticks) {
      const at = this.y(value);
      root.append(
        svg("line", { class: "kd-grid", x1: left, x2: right, y1: at, y2: at }),
        svg("text", { class: "kd-tick", x: left - 6, y: at + 4, "text-anchor": "end" }, label),
      );
    }
    for (const [value, label] of this.x.ticks) {
      const at = this.x(value);
      root.append(
        svg("line", { class: "kd-axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }),
        svg("text", { class: "kd-tick", x: at, y: bottom + 17, "text-anchor": "middle" }, label),
      );
    }
    root.append(
      svg("line", { class: "kd-axis", x1: left, x2: x.infinity ? right - 24 : right, y1: bottom, y2: bottom }),
      svg("text", { class: "kd-label", x: right, y: height - 6, "text-anchor": "end" }, x.label),
      svg("text", { class: "kd-label", x: 2, y: 13 }, y.label),
    );
    const clip = `kd-clip-${Math.random().toString(36).slice(2)}`;
    root.append(svg("clipPath", { id: clip }, svg("rect", { x: left, y: top - 6, width: right - left, height: bottom - top + 12 })));
    // Behind them all, a sheet that no path leaves: were the group's bounds to move, the browser would sort the page's layers anew.
    const sheet = svg("rect", { fill: "transparent", x: -10 * width, width: 30 * width, y: -20 * FAR, height: 40 * FAR });
    const layers = svg("g", { transform: "scale(0.1)" }, sheet); // a Pen's unit
    // The look of a layer stands on a group of its own: a new path then costs no more than its shape.
    this.paths = this.spec.layers.map((layer) => {
      const path = svg("path", { "data-layer": layer.y ?? layer.x });
      const look = {
        fill: "none",
        style: `stroke: var(--kd-${layer.color})`,
        "stroke-width": 10 * (layer.width ?? 1.8),
        "stroke-opacity": layer.opacity ?? 1,
        "stroke-dasharray": tenths(layer.dash ?? "none"),
        "stroke-linejoin": "round",
        ...(layer.kind === "marks" && symbolAttributes(layer)),
      };
      layers.append(svg("g", look, path));
      return path;
    });
    root.append(svg("g", { "clip-path": `url(#${clip})` }, layers));
    this.element.setAttribute("width", width);
    this.element.setAttribute("height", height);
    this.element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.element.replaceChildren(root);
  }

  draw() {
    if (!this.width) return;
    this.spec.layers.forEach((layer, i) => {
      const fields = [layer.x, layer.y, layer.y2].map((name) => name && this.data.field(name));
      if (fields.every((field, k) => field === this.drawn[i][k])) return;
      this.drawn[i] = fields;
      this.paths[i].setAttribute("d", this.path(layer));
    });
  }

  /** Where a field's numbers stand across; kept as long as the field does. */
  columns(name) {
    const field = this.data.field(name);
    const before = this.placed[name];
    if (before?.field === field) return before.xs;
    const xs = Array.from(field, this.x);
    this.placed[name] = { field, xs };
    return xs;
  }

  path(layer) {
    const pen = new Pen();
    const y = (v) => Math.max(-FAR, Math.min(FAR, this.y(v))); // a log axis sends 0 far below the frame
    const straight = (x1, y1, x2, y2) => {
      pen.move(x1, y1);
      pen.line(x2, y2);
    };
    const { x: across, y: upright } = this.spec;
    if (layer.kind === "cursor") {
      const x = this.x(this.data.field(layer.x)[0]);
      if (Number.isFinite(x)) straight(x, this.y(upright.domain[0]), x, this.y(upright.domain[1]));
      return pen.text;
    }
    const ys = Array.from(this.data.field(layer.y), y);
    if (layer.kind === "rule") {
      straight(this.x(across.domain[0]), ys[0], this.x(across.infinity ? Infinity : across.domain[1]), ys[0]);
      return pen.text;
    }
    const xs = this.columns(layer.x);
    if (layer.kind === "marks") {
      ys.forEach((value, i) => {
        const x = xs[xs.length === 1 ? 0 : i]; // as many marks as values; a single x serves them all (the column at t = ∞)
        if (Number.isFinite(x) && Number.isFinite(value)) pen.mark(layer.symbol, x, value);
      });
    } else if (layer.kind === "segments") {
      const ends = Array.from(this.data.field(layer.y2), y);
      xs.forEach((x, i) => Number.isFinite(x) && !Number.isNaN(ys[i] + ends[i]) && straight(x, ys[i], x, ends[i]));
    } else if (layer.kind === "curve") {
      smoothWay(pen, xs, ys);
    } else {
      for (let start = 0; start < ys.length; start += xs.length) smoothPath(pen, xs, ys.slice(start, start + xs.length));
    }
    return pen.text;
  }
}

// ---------------------------------------------------------------- controls and read-out

function makeControl(parameter, data, id) {
  const grid = parameter.values;
  const input = html("input", {
    id,
    type: "range",
    name: parameter.name,
    min: 0,
    max: grid ? grid.length - 1 : parameter.maximum,
    step: grid ? 1 : parameter.step,
    "data-lm-suppress-shortcuts": "true", // JupyterLab would keep the arrow keys to itself
  });
  const shown = html("span", { class: "kd-value", "aria-hidden": "true" }); // spoken as the slider's own value
  const span = grid ? grid.length - 1 : parameter.maximum;
  const ticks = html("div", { class: "kd-ticks", "aria-hidden": "true" });
  for (const value of parameter.ticks) {
    const share = (grid ? grid.indexOf(value) : value) / span;
    ticks.append(html("span", { style: `--at:${share}` }, parameter.names?.[grid.indexOf(value)] ?? String(value)));
  }
  input.addEventListener("input", () => {
    data.model.set(parameter.name, grid ? grid[Number(input.value)] : Number(input.value));
    data.model.save_changes();
  });
  const control = html(
    "div",
    { class: "kd-control" },
    html("label", { for: id }, parameter.label, " ", shown),
    input,
    ticks,
  );
  const draw = () => {
    const value = data.model.get(parameter.name);
    const at = grid ? data.index(parameter) : value;
    if (Number(input.value) !== at) input.value = at;
    const text = `${parameter.symbol} = ${data.text(parameter)}`;
    write(shown, text);
    set(input, "aria-valuetext", text);
  };
  return { control, draw };
}

function swatch(row) {
  const box = svg("svg", { class: "kd-swatch", width: 34, height: 14, viewBox: "-170 -70 340 140", "aria-hidden": "true" });
  const line = { d: "M-170 0H170", style: `stroke: var(--kd-${row.color})`, "stroke-width": 18 };
  if (row.dash) box.append(svg("path", { ...line, "stroke-dasharray": tenths(row.dash) }));
  if (row.symbol) box.append(svg("path", { d: `M0 0${SYMBOLS[row.symbol]}`, ...symbolAttributes(row) }));
  return box;
}

/** The legend and the numbers in one table: a row for each role, a column for each quantity. */
function makeReadout(spec, data) {
  const cells = [];
  const body = html("tbody");
  for (const row of spec.rows) {
    const line = html("tr", {}, html("th", { scope: "row" }, swatch(row), row.label));
    for (const name of row.fields) {
      const moves = name in data.spec.fields; // else it is a text
      const cell = html("td", moves ? { "data-field": name } : {}, moves ? "" : name);
      if (moves) cells.push([cell, name]);
      line.append(cell);
    }
    body.append(line);
  }
  const head = html("tr", {}, html("th", { scope: "col" }, spec.corner), ...spec.columns.map((c) => html("th", { scope: "col" }, c)));
  const table = html("table", { class: "kd-table" }, html("thead", {}, head), body);
  const draw = () => cells.forEach(([cell, name]) => write(cell, data.say(name)));
  return { table, draw };
}

// ---------------------------------------------------------------- the widget

function render({ model, el }) {
  const data = new Data(model);
  const { spec } = data;
  const id = `kd-${Math.random().toString(36).slice(2)}`;
  const controls = spec.parameters.map((p) => makeControl(p, data, `${id}-${p.name}`));
  const readout = makeReadout(spec.readout, data);
  const views = spec.views.map((v) => new View(v, data));
  // One sentence for all: it reads with the eye at once and is spoken when the slider rests.
  const sentence = html("p", { class: "kd-sentence", "aria-live": "polite", "aria-atomic": "true" });
  const root = html(
    "div",
    { class: "kd-explorer-live", role: "group", "aria-label": spec.title },
    html("p", { class: "kd-claim" }, spec.claim),
    html("div", { class: "kd-controls" }, ...controls.map((c) => c.control)),
    readout.table,
    sentence,
    html("div", { class: "kd-views" }, ...views.map((v) => v.box)),
  );

  for (const [role, [light, dark]] of Object.entries(spec.colors)) {
    root.style.setProperty(`--kd-${role}`, `light-dark(${light}, ${dark})`);
  }

  let frame = 0;
  let rest = 0;
  const draw = () => {
    frame = 0;
    controls.forEach((c) => c.draw());
    readout.draw();
    views.forEach((v) => v.draw());
    set(sentence, "aria-busy", "true");
    write(sentence, data.sentence());
    clearTimeout(rest);
    rest = setTimeout(() => sentence.setAttribute("aria-busy", "false"), 400);
  };
  const schedule = () => (frame ||= requestAnimationFrame(draw));
  const refresh = () => {
    data.live = undefined;
    schedule();
  };
  const events = [...spec.parameters.map((p) => `change:${p.name}`), "change:_live"];
  events.forEach((event) => model.on(event, refresh));

  // The height that a text has once needed is kept: what follows does not move to and fro with it.
  const texts = [...root.querySelectorAll("label"), sentence];
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (width !== root.clientWidth) texts.forEach((text) => (text.style.minHeight = ""));
    width = root.clientWidth;
    texts.forEach((text) => (text.style.minHeight = `${text.getBoundingClientRect().height}px`));
    views.forEach((v) => {
      v.layout();
      v.draw(); // in the same frame: the axes are never seen empty
    });
  });
  el.append(root);
  views.forEach((v) => v.layout());
  draw();
  observer.observe(root);

  return () => {
    observer.disconnect();
    cancelAnimationFrame(frame);
    clearTimeout(rest);
    events.forEach((event) => model.off(event, refresh));
  };
}

export default { render };
