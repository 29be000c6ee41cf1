// Draws a figure (figure.py: a table and a way to draw it) as SVG, and saves it as PNG, SVG or CSV.
// No library and no network: the app and the pages that open from a file share this one text.

const COLOURS = ["#3d85d1", "#cf6f2e", "#369961", "#9a6fd8", "#cf5695", "#7b8a9c",
  "#a98a1f", "#1f9aa3", "#d9534f", "#6a78d6"];
const NAMESPACE = "http://www.w3.org/2000/svg";
const BOUNDS = { compute: "#3d85d1", memory: "#cf6f2e", network: "#9a6fd8", overhead: "#7b8a9c" };
let font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const PREFIXED = { s: 1, B: 1, "B/s": 1, "FLOP/s": 1, W: 1, J: 1 };
const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""],
  [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
const NARROW = 520;
const LINE = 16;

const pen = typeof document === "undefined" ? null : document.createElement("canvas").getContext("2d");

function textWidth(text, size = 12, weight = 400) {
  pen.font = `${weight} ${size}px ${font}`;
  return pen.measureText(text).width;
}

function rounded(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 99.95) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (unit === "share") return `${rounded(100 * value)} %`;
  if (unit === "USD") return `$${rounded(value)}`;
  if (!(unit in PREFIXED)) return rounded(value) + (unit ? ` ${unit}` : "");
  const size = Math.abs(value);
  const [factor, prefix] = size === 0 ? [1, ""]
    : PREFIXES.find(([each]) => size >= each * 0.9995) || PREFIXES[PREFIXES.length - 1];
  const whole = unit === "B" || unit === "B/s";
  return `${rounded(whole && size < 1 ? value : value / factor)} ${whole && size < 1 ? "" : prefix}${unit}`;
}

function linearTicks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw) * power;
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) {
    ticks.push(Number((at * step).toPrecision(12)));
  }
  return ticks;
}

function logTicks(low, high, count) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const parts = Math.log10(high / low) <= 2.6 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = first; power <= last; power++) {
    for (const part of parts) {
      const tick = part * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  }
  if (ticks.length < 3) return linearTicks(low, high, Math.max(count, 2));
  const every = Math.ceil(ticks.length / Math.max(count + 1, 2));
  return ticks.filter((_, place) => place % every === 0);
}

function scale(values, from, to, log, fromZero) {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  let low = Math.min(...extremes(usable)), high = Math.max(...extremes(usable));
  if (!usable.length) { low = log ? 1 : 0; high = log ? 10 : 1; }
  if (log) {
    if (low === high) { low /= 2; high *= 2; }
    const room = (high / low) ** 0.04;
    low /= room; high *= room;
    const factor = (to - from) / Math.log(high / low);
    const at = (value) => from + factor * Math.log(value / low);
    return { at, low, high, ticks: (count) => logTicks(low, high, count), log };
  }
  if (fromZero) { low = Math.min(low, 0); high = Math.max(high, 0); }
  if (low === high) { high = low + (Math.abs(low) || 1); if (!fromZero) low -= Math.abs(low) || 1; }
  const room = (high - low) * 0.04;
  if (!fromZero || low < 0) low -= room;
  high += room;
  const factor = (to - from) / (high - low);
  const at = (value) => from + factor * (value - low);
  return { at, low, high, ticks: (count) => linearTicks(low, high, count), log };
}

function extremes(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return [low, high];
}

function element(name, attributes, parent, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

function wrapped(text, width, size, weight) {
  const lines = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line ? `${line} ${word}` : word;
    if (line && textWidth(longer, size, weight) > width) { lines.push(line); line = word; }
    else line = longer;
  }
  if (line) lines.push(line);
  return lines;
}

function cut(text, width, size = 12) {
  if (textWidth(text, size) <= width) return text;
  let kept = text;
  while (kept.length > 1 && textWidth(`${kept}…`, size) > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}

// The table by column name, and the series that its colour column tells apart.
function read(spec) {
  const place = {};
  spec.columns.forEach((column, at) => { place[column.name] = at; });
  const cell = (row, name) => (name ? row[place[name]] : undefined);
  const series = [];
  if (spec.color) {
    for (const row of spec.rows) {
      const name = String(cell(row, spec.color));
      if (!series.includes(name)) series.push(name);
    }
  }
  // What binds an operator has the same colour in every figure.
  const ink = (name) => BOUNDS[name] || COLOURS[series.indexOf(name) % COLOURS.length];
  const colour = (row) => (spec.color ? ink(String(cell(row, spec.color))) : COLOURS[0]);
  return { cell, series, ink, colour, column: (name) => spec.columns[place[name]] };
}

function heading(svg, spec, data, width) {
  let y = 4;
  for (const line of wrapped(spec.title, width, 14, 600)) {
    y += 18;
    element("text", { x: 0, y: y - 4, "font-size": 14, "font-weight": 600, fill: "currentColor" }, svg, line);
  }
  if (data.series.length < 2) return y + 8;
  let x = 0;
  y += 4;
  data.series.slice(0, 24).forEach((name) => {
    const label = cut(name, width - 20);
    const wide = textWidth(label) + 30;
    if (x && x + wide > width) { x = 0; y += LINE + 2; }
    element("rect", { x, y: y + 3, width: 10, height: 10, rx: 2, fill: data.ink(name) }, svg);
    element("text", { x: x + 15, y: y + 12, "font-size": 12, fill: "currentColor" }, svg, label);
    x += wide;
  });
  return y + LINE + 10;
}

function grid(svg, x1, y1, x2, y2, strong) {
  element("line", { x1, y1, x2, y2, stroke: "currentColor", "stroke-opacity": strong ? 0.55 : 0.13 }, svg);
}

function small(svg, x, y, text, anchor, more = {}) {
  return element("text", { x, y, "font-size": 11.5, "text-anchor": anchor, fill: "currentColor",
    "fill-opacity": 0.75, ...more }, svg, text);
}

function drawBars(svg, spec, data, width, top) {
  const { cell, colour, column } = data;
  const unit = column(spec.x).unit;
  const names = [...new Set(spec.rows.map((row) => String(cell(row, spec.y))))];
  const rowsOf = new Map(names.map((name) => [name, []]));
  for (const row of spec.rows) if (cell(row, spec.x) !== null) rowsOf.get(String(cell(row, spec.y))).push(row);
  const above = width < NARROW;
  const widest = Math.max(...names.map((name) => textWidth(name)));
  const left = above ? 0 : Math.min(widest + 10, width * 0.36);
  const reach = [];
  for (const rows of rowsOf.values()) {
    if (spec.stacked) reach.push(rows.reduce((sum, row) => sum + cell(row, spec.x), 0));
    else for (const row of rows) reach.push(cell(row, spec.x), cell(row, spec.high) ?? 0, cell(row, spec.low) ?? 0);
  }
  for (const rule of spec.rules) reach.push(rule.value);
  const labels = spec.stacked ? 10 : 74;
  const from = left + (spec.overlaid && reach.some((each) => each < 0) ? 58 : 0);
  const across = scale(spec.log_x ? reach.filter((each) => each > 0) : reach, from, width - labels, spec.log_x, true);
  const thick = spec.stacked ? 22 : 14;
  let y = top;
  const marks = [];
  const bars = element("g", {}), whiskers = element("g", {});
  for (const [name, rows] of rowsOf) {
    if (above) { small(svg, 0, y + 11, cut(name, width), "start", { "fill-opacity": 1 }); y += LINE; }
    const start = y;
    let base = 0;
    for (const [count, row] of rows.entries()) {
      if (spec.overlaid && count) y = start;
      const value = cell(row, spec.x);
      const from = spec.log_x ? across.at(across.low) : across.at(base);
      const to = spec.log_x ? across.at(value) : across.at(base + value);
      const bar = element("rect", { x: Math.min(from, to), y, width: Math.max(Math.abs(to - from), 1), height: thick, rx: 2, fill: colour(row) }, bars);
      marks.push({ x: (from + to) / 2, y: y + thick / 2, row, box: bar });
      if (spec.stacked) { base += value; continue; }
      const low = cell(row, spec.low), high = cell(row, spec.high);
      let end = Math.max(from, to);
      if (low !== null && low !== undefined && high !== null && high !== undefined) {
        const middle = y + thick / 2;
        element("path", { d: `M${across.at(low)} ${middle}H${across.at(high)}M${across.at(low)} ${middle - 4}v8M${across.at(high)} ${middle - 4}v8`, stroke: "currentColor", "stroke-opacity": 0.7, fill: "none" }, whiskers);
        end = Math.max(end, across.at(high));
      }
      // An overlaid bar to the left says its value on its left, where the other's does not stand.
      const leftward = spec.overlaid && value < 0;
      small(svg, leftward ? Math.min(from, to) - 5 : end + 5, y + thick - 3, shown(value, unit),
        leftward ? "end" : "start", { "fill-opacity": 0.95 });
      y += thick + 3;
    }
    if (spec.stacked || !rows.length) {
      if (!rows.length) small(svg, left + 4, y + thick - 3, "no figure", "start");
      y += thick + 3;
    }
    if (!above) small(svg, left - 8, (start + y) / 2 + 2.5, cut(name, left - 10), "end", { "fill-opacity": 1 });
    y += above ? 7 : 5;
  }
  const bottom = y;
  for (const tick of across.ticks(Math.max(2, Math.floor((width - left - labels) / 95)))) {
    const x = across.at(tick);
    grid(svg, x, top - 2, x, bottom, tick === 0);
    small(svg, x, bottom + 14, shown(tick, unit), x < left + 20 && !above ? "middle" : x < 20 ? "start" : "middle");
  }
  svg.append(bars, whiskers);
  for (const rule of spec.rules) {
    const x = across.at(rule.value);
    element("line", { x1: x, x2: x, y1: top - 4, y2: bottom, stroke: "#d9534f", "stroke-dasharray": "4 3", "stroke-width": 1.5 }, svg);
    const ends = x > width * 0.6;
    small(svg, x + (ends ? -5 : 5), top - 8, rule.label, ends ? "end" : "start", { fill: "#d9534f", "fill-opacity": 1 });
  }
  small(svg, width, bottom + 31, column(spec.x).title, "end");
  return { height: bottom + 38, marks };
}

function drawPlane(svg, spec, data, width, top) {
  const { cell, colour, column } = data;
  const parity = spec.mark === "parity";
  const unitX = column(spec.x).unit, unitY = column(spec.y).unit;
  const rows = spec.rows.filter((row) => cell(row, spec.x) !== null && cell(row, spec.y) !== null);
  const tall = parity ? Math.min(width, 560) * 0.86 : Math.max(220, Math.min(width * 0.56, 380));
  const gutter = unitY in PREFIXED ? 58 : 66;
  let xs = rows.map((row) => cell(row, spec.x)), ys = rows.map((row) => cell(row, spec.y));
  for (const row of rows) for (const side of [spec.low, spec.high]) if (side && cell(row, side) !== null) ys.push(cell(row, side));
  for (const rule of spec.rules) (rule.axis === "x" ? xs : ys).push(rule.value);
  if (parity) { xs = xs.concat(ys); ys = xs; }
  const right = parity ? Math.min(width, gutter + tall) : width - 12;
  const across = scale(xs, gutter, right, parity || spec.log_x, false);
  const up = scale(ys, top + tall, top, parity || spec.log_y, spec.mark === "line" && !spec.log_y);
  for (const tick of across.ticks(Math.floor((right - gutter) / 80))) {
    grid(svg, across.at(tick), top, across.at(tick), top + tall, false);
    small(svg, across.at(tick), top + tall + 15, shown(tick, unitX), "middle");
  }
  for (const tick of up.ticks(Math.floor(tall / 45))) {
    grid(svg, gutter, up.at(tick), right, up.at(tick), false);
    small(svg, gutter - 6, up.at(tick) + 4, shown(tick, unitY), "end");
  }
  grid(svg, gutter, top + tall, right, top + tall, true);
  grid(svg, gutter, top, gutter, top + tall, true);
  small(svg, right, top + tall + 32, column(spec.x).title, "end");
  small(svg, gutter - 6, top - 7, `↑ ${column(spec.y).title}`, "start");
  if (parity) drawBands(svg, across, up);
  const marks = rows.map((row) => ({ x: across.at(cell(row, spec.x)), y: up.at(cell(row, spec.y)), row }))
    .filter((mark) => Number.isFinite(mark.x) && Number.isFinite(mark.y));
  for (const rule of spec.rules) drawRule(svg, rule, across, up, gutter, right, top, tall);
  const groups = new Map();
  for (const mark of marks) {
    const key = colour(mark.row) + (spec.color ? String(cell(mark.row, spec.color)) : "");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(mark);
  }
  for (const group of groups.values()) drawSeries(svg, spec, data, group, up, marks.length);
  return { height: top + tall + 40, marks };
}

function drawSeries(svg, spec, data, group, up, count) {
  const { cell, colour } = data;
  const ink = colour(group[0].row);
  if (spec.mark === "line") {
    const banded = spec.low ? group.filter((mark) => cell(mark.row, spec.low) !== null) : [];
    if (banded.length > 1) {
      const edge = (side) => banded.map((mark) => `${mark.x} ${up.at(cell(mark.row, side))}`);
      const outline = [...edge(spec.high), ...edge(spec.low).reverse()].join("L");
      element("path", { d: `M${outline}Z`, fill: ink, "fill-opacity": 0.14 }, svg);
    }
    const path = group.map((mark) => `${mark.x.toFixed(1)} ${mark.y.toFixed(1)}`).join("L");
    element("path", { d: `M${path}`, fill: "none", stroke: ink, "stroke-width": 2, "stroke-linejoin": "round" }, svg);
    if (group.length > 40) return;
  }
  const strong = spec.strong && String(cell(group[0].row, spec.color)) === spec.strong;
  const size = strong ? 12 : count > 400 ? 4 : count > 60 ? 5.5 : 8;
  const dots = group.map((mark) => `M${mark.x.toFixed(1)} ${mark.y.toFixed(1)}h0`).join("");
  element("path", { d: dots, stroke: ink, "stroke-width": size, "stroke-linecap": "round",
    "stroke-opacity": strong ? 1 : count > 400 ? 0.5 : 0.85, fill: "none" }, svg);
}

function drawBands(svg, across, up) {
  const low = Math.max(across.low, up.low), high = Math.min(across.high, up.high);
  const clip = (value) => Math.min(Math.max(value, low), high);
  for (const [off, faint] of [[1.2, 0.07], [1.1, 0.09]]) {
    const corners = [[low, clip(low * off)], [clip(high / off), high], [high, high], [high, clip(high / off)],
      [clip(low * off), low], [low, low]];
    element("path", { d: `M${corners.map(([x, y]) => `${across.at(x)} ${up.at(y)}`).join("L")}Z`,
      fill: "currentColor", "fill-opacity": faint }, svg);
  }
  element("line", { x1: across.at(low), y1: up.at(low), x2: across.at(high), y2: up.at(high),
    stroke: "currentColor", "stroke-opacity": 0.6 }, svg);
}

function drawRule(svg, rule, across, up, gutter, right, top, tall) {
  const ink = { stroke: "#d9534f", "stroke-dasharray": "4 3", "stroke-width": 1.3 };
  const words = { fill: "#d9534f", "fill-opacity": 1 };
  if (rule.axis === "x") {
    const x = across.at(rule.value);
    element("line", { x1: x, x2: x, y1: top, y2: top + tall, ...ink }, svg);
    const ends = x > (gutter + right) / 2;
    small(svg, x + (ends ? -5 : 5), top + 14, rule.label, ends ? "end" : "start", words);
  } else {
    const y = up.at(rule.value);
    element("line", { x1: gutter, x2: right, y1: y, y2: y, ...ink }, svg);
    small(svg, right - 4, y - 5, rule.label, "end", words);
  }
}

function render(spec, width) {
  const svg = element("svg", { xmlns: NAMESPACE, width, role: "img", "aria-label": spec.title, "font-family": font });
  const data = read(spec);
  const above = spec.mark !== "bar" || spec.rules.length ? 16 : 2;
  const top = heading(svg, spec, data, width) + above;
  const drawn = (spec.mark === "bar" ? drawBars : drawPlane)(svg, spec, data, width, top);
  svg.setAttribute("height", drawn.height);
  svg.setAttribute("viewBox", `0 0 ${width} ${drawn.height}`);
  return { svg, marks: drawn.marks, data };
}

function csvOf(spec) {
  const quoted = (cell) => {
    if (cell === null) return "";
    const text = String(cell);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const heads = spec.columns.map((column) => (column.unit ? `${column.title} (${column.unit})` : column.title));
  return [heads, ...spec.rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function coloursAround(node) {
  let back = "";
  for (let at = node; at && !back; at = at.parentElement || (at.getRootNode() && at.getRootNode().host)) {
    const found = getComputedStyle(at).backgroundColor;
    if (found && found !== "transparent" && !/, 0\)$/.test(found)) back = found;
  }
  return { ink: getComputedStyle(node).color, back: back || "#ffffff" };
}

function standalone(spec, node) {
  const { ink, back } = coloursAround(node);
  const { svg } = render(spec, 900);
  const height = Number(svg.getAttribute("height"));
  svg.setAttribute("viewBox", `-16 -12 932 ${height + 20}`);
  svg.setAttribute("width", 932);
  svg.setAttribute("height", height + 20);
  svg.setAttribute("color", ink);
  svg.insertBefore(element("rect", { x: -16, y: -12, width: 932, height: height + 20, fill: back }), svg.firstChild);
  return { text: new XMLSerializer().serializeToString(svg), width: 932, height: height + 20 };
}

function savePng(spec, node) {
  const made = standalone(spec, node);
  const picture = new Image();
  picture.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = 2 * made.width;
    canvas.height = 2 * made.height;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(`${spec.name}.png`, blob), "image/png");
  };
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(made.text)}`;
}

function follow(box, tip, svg, marks, spec) {
  const near = (event) => {
    const frame = svg.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    let best = null, least = 40 * 40;
    for (const mark of marks) {
      const bar = mark.box && mark.box.getBBox();
      const inside = bar && x >= bar.x - 4 && x <= bar.x + bar.width + 4 && y >= bar.y - 2 && y <= bar.y + bar.height + 2;
      const far = inside ? 0 : bar ? Infinity : (mark.x - x) ** 2 + (mark.y - y) ** 2;
      if (far < least) { least = far; best = mark; }
    }
    tip.hidden = !best;
    if (!best) return;
    tip.replaceChildren(...spec.columns.map((column, at) => [column, best.row[at]])
      .filter(([, value]) => value !== null && value !== "")
      .map(([column, value]) => {
        const line = document.createElement("div");
        const name = document.createElement("span");
        name.textContent = column.title;
        const figure = document.createElement("b");
        figure.textContent = shown(value, column.unit);
        line.append(name, figure);
        return line;
      }));
    const room = box.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(x + 14, room))}px`;
    tip.style.top = `${y + 14}px`;
  };
  svg.addEventListener("pointermove", near);
  svg.addEventListener("pointerdown", near);
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function button(name, about, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = name;
  made.title = about;
  made.setAttribute("aria-label", about);
  made.addEventListener("click", act);
  return made;
}

// Puts a figure into an element, and again whenever its width changes; returns how to end it.
function mount(parent, spec) {
  const box = document.createElement("figure");
  box.className = "plumbline-figure";
  const canvas = document.createElement("div");
  canvas.className = "canvas";
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  const foot = document.createElement("figcaption");
  const words = document.createElement("span");
  words.textContent = spec.caption;
  const links = document.createElement("span");
  links.className = "links";
  links.append(
    button("CSV", `Download “${spec.title}” as CSV`, () => save(`${spec.name}.csv`, new Blob([csvOf(spec)], { type: "text/csv" }))),
    button("PNG", `Download “${spec.title}” as PNG`, () => savePng(spec, box)),
    button("SVG", `Download “${spec.title}” as SVG`, () => save(`${spec.name}.svg`, new Blob([standalone(spec, box).text], { type: "image/svg+xml" }))),
  );
  foot.append(words, links);
  box.append(canvas, tip, foot);
  parent.replaceChildren(box);
  font = getComputedStyle(box).fontFamily || font;
  let width = 0;
  const redraw = () => {
    const now = Math.floor(canvas.clientWidth);
    if (now < 40 || now === width) return;
    width = now;
    const { svg, marks } = render(spec, width);
    canvas.replaceChildren(svg);
    tip.hidden = true;
    follow(box, tip, svg, marks, spec);
  };
  const watcher = new ResizeObserver(redraw);
  watcher.observe(canvas);
  redraw();
  return () => watcher.disconnect();
}
