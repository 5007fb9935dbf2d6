// Means and intervals, IoU by class, by size and by number of objects.
const percent = (value) => `${(100 * Math.min(1, Math.max(0, value))).toFixed(2)}%`;
const range = (part) => part.low === null ? "" : ` [${two(part.low)}, ${two(part.high)}]`;

function ceilingOf(judge) {
  const rows = data.rows.filter((row) => row.judge === judge && row.ceiling);
  return rows.find((row) => row.ignore === data.ignore)?.figures.iou_image ?? null;
}

/** Lines of the plot: the rows of all judges, each with what every judge says of it. */
function intervalLines() {
  const lines = new Map();
  for (const row of data.rows) {
    const key = `${row.column} ${row.ignore}`;
    const line = { name: nameOf(row), method: row.method, judged: new Map() };
    if (!lines.has(key)) lines.set(key, line);
    lines.get(key).judged.set(row.judge, row.figures.iou_image);
  }
  return [...lines.values()];
}

function track(...inside) {
  const grid = [0, 0.2, 0.4, 0.6, 0.8, 1].map((at) =>
    make("svg:line", { class: "grid", x1: percent(at), x2: percent(at), y1: 0, y2: "100%" }));
  return make("svg:svg", { role: "img" }, ...grid, ...inside);
}

const radius = (kind) => (kind === "chosen" ? 5 : 3.5);

function mark(figure, kind, y) {
  if (figure.mean === null) return [];
  const at = { cx: percent(figure.mean), cy: y, r: radius(kind) };
  const dot = make("svg:circle", { class: kind, ...at });
  if (figure.low === null) return [dot];
  const [x1, x2] = [percent(figure.low), percent(figure.high)];
  return [make("svg:line", { class: `${kind} mark`, x1, x2, y1: y, y2: y }), dot];
}

function showIntervals() {
  const others = data.judges.map((judge) => judge.name).filter((name) => name !== state.judge);
  const ceiling = ceilingOf(state.judge);
  const nodes = [];
  for (const line of intervalLines()) {
    const said = [...line.judged].map(([judge, each]) => `${judge} ${each.text} ${each.ends}`);
    const svg = track(make("svg:title", {}, `${line.name}: ${said.join("; ")}`));
    if (ceiling?.low != null) {
      const band = { x: percent(ceiling.low), width: percent(ceiling.high - ceiling.low) };
      svg.prepend(make("svg:rect", { class: "band", ...band, y: 0, height: "100%" }));
      const x = percent(ceiling.mean);
      svg.append(make("svg:line", { class: "ceiling", x1: x, x2: x, y1: 0, y2: "100%" }));
    }
    others.forEach((judge, place) => {
      const y = `${72 + (18 * place) / others.length}%`;
      if (line.judged.has(judge)) svg.append(...mark(line.judged.get(judge), "behind", y));
    });
    const chosen = line.judged.get(state.judge);
    if (chosen) svg.append(...mark(chosen, "chosen", others.length ? "38%" : "50%"));
    nodes.push(
      make("span", { class: line.method ? "name" : "name reference" }, line.name), svg,
      make("span", {}, chosen && chosen.mean !== null ? chosen.mean.toFixed(3) : ""));
  }
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((at) =>
    make("svg:text", { class: "tick", x: percent(at), y: 14 }, `${at}`));
  const axis = make("svg:svg", { "aria-hidden": "true" }, ...ticks);
  nodes.push(make("span", { class: "name" }), axis, make("span"));
  find("interval-plot").replaceChildren(...nodes);
  const key = (kind, text) => make("span", {}, make("svg:svg", { width: 26, height: 12 },
    make("svg:line", { class: `${kind} mark`, x1: 2, x2: 24, y1: 6, y2: 6 }),
    make("svg:circle", { class: kind, cx: 13, cy: 6, r: radius(kind) })), text);
  find("interval-legend").replaceChildren(
    key("chosen", state.judge), ...others.map((judge) => key("behind", judge)));
}

function showClasses() {
  const rows = rowsOf(state.judge);
  const there = data.labels.map((_, index) => index)
    .filter((index) => rows.some((row) => row.by_class[index]));
  const head = there.map((index) =>
    make("th", { scope: "col" }, make("div", {}, swatch(index), data.labels[index])));
  find("heat").replaceChildren(
    make("thead", {}, make("tr", {}, make("td"), ...head)),
    make("tbody", {}, ...rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, nameOf(row)),
      ...there.map((index) => heatCell(row, index))))));
}

function heatCell(row, index) {
  const part = row.by_class[index];
  if (!part) return make("td", { class: "none" }, "–");
  const said = `${two(part.mean)}${range(part)}, n ${part.n}`;
  const title = `${nameOf(row)}, ${data.labels[index]}: ${said}`;
  const cell = make("td", { title, class: part.mean > 0.64 ? "strong" : null },
    two(part.mean), make("small", {}, `${part.n}`));
  return shared(cell, part.mean);
}

const PANEL = { width: 240, height: 150, left: 26, right: 8, top: 8, bottom: 36 };

function showPanels() {
  const rows = rowsOf(state.judge);
  const panels = (id, key, names) => find(id).replaceChildren(
    ...rows.map((row) => panel(row, rows, key, names)));
  panels("size-panels", "by_size", data.sizes);
  panels("object-panels", "by_objects", data.objects.map(String));
}

function panel(row, rows, key, names) {
  const { width, height, left, right, top, bottom } = PANEL;
  const step = (width - left - right) / names.length;
  const x = (place) => left + step * (place + 0.5);
  const y = (value) => top + (height - top - bottom) * (1 - Math.min(1, Math.max(0, value)));
  const course = (each, kind) => {
    const points = each[key].map((part, place) => part && `${x(place)},${y(part.mean).toFixed(1)}`);
    const line = { class: `${kind} line`, points: points.filter(Boolean).join(" ") };
    return make("svg:polyline", line);
  };
  const said = row[key].map((part, place) =>
    part ? `${names[place]}: ${two(part.mean)}${range(part)}, n ${part.n}` : null);
  const title = `${nameOf(row)}. ${said.filter(Boolean).join("; ")}`;
  const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img" },
    make("svg:title", {}, title));
  for (const at of [0, 0.5, 1]) {
    svg.append(
      make("svg:line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
      make("svg:text", { class: "tick", x: left - 11, y: y(at) + 3 }, `${at}`));
  }
  const units = [key === "by_size" ? "%" : "", "n"];
  units.forEach((unit, line) => svg.append(
    make("svg:text", { class: "tick", x: left - 11, y: height - bottom + 14 + 13 * line }, unit)));
  svg.append(...rows.filter((other) => other !== row).map((other) => course(other, "behind")));
  svg.append(course(row, "chosen"));
  row[key].forEach((part, place) => {
    const at = { class: "tick", x: x(place) };
    svg.append(make("svg:text", { ...at, y: height - bottom + 14 }, short(names[place])));
    if (!part) return;
    svg.append(make("svg:text", { ...at, y: height - bottom + 27 }, `${part.n}`));
    if (part.low !== null) {
      const ends = { x1: x(place), x2: x(place), y1: y(part.low), y2: y(part.high) };
      svg.append(make("svg:line", { class: "chosen mark", ...ends }));
    }
    svg.append(make("svg:circle", { class: "chosen", cx: x(place), cy: y(part.mean), r: 3.2 }));
  });
  return make("figure", { class: "panel" }, make("figcaption", {}, nameOf(row)), svg);
}

/** A bin's name where there is little room. */
const short = (name) =>
  name.replace("%", "").replace("under ", "<").replace(" to ", "–").replace(" or more", "+");
