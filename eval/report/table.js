// The table of figures, sorted by any column, and the published figures.
const FIGURES = [
  "iou_image", "iou_foreground", "iou_region", "iou_dataset", ...Object.keys(data.quality),
];
const sorting = { column: null, down: true };

const memoryOf = (row) => {
  const drawn = columnOf(row).drawn;
  return drawn ? drawn.peak_device_mib ?? drawn.peak_mib : null;
};

function memoryText(row) {
  const mib = memoryOf(row);
  if (mib === null) return "";
  const text = mib < 1024 ? `${mib} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
  return columnOf(row).drawn.peak_device_mib === null ? text : `${text} GPU`;
}

function secondsText(row) {
  const seconds = columnOf(row).drawn?.seconds ?? null;
  if (seconds === null) return "";
  return seconds < 0.01 ? "< 0.01 s" : `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

function figureCell(row, name) {
  const figure = row.figures[name];
  const best = name === "iou_image" && row.best && figure.mean !== null;
  return make("td", { "data-column": name },
    make(best ? "b" : "span", {}, figure.text), make("small", {}, figure.ends));
}

const plainCell = (name, text) => make("td", { "data-column": name }, text);

function nameCell(row) {
  const cell = make("th", { scope: "row", title: columnOf(row).folder }, columnOf(row).name);
  const tags = [...row.remarks, ...(row.ceiling ? ["ceiling"] : [])].map((remark) =>
    make("span", { class: remark === "judged by its guide" ? "tag loud" : "tag" }, remark));
  if (tags.length) cell.append(make("div", {}, ...tags));
  return cell;
}

/** head, a value to sort by, the cell, and whether a row has any. */
const COLUMNS = [
  { head: "row", text: true, value: (row) => nameOf(row), cell: nameCell },
  { head: "n", value: (row) => row.n, cell: (row) => plainCell("n", `${row.n}`) },
  {
    head: "failed", value: (row) => row.failed,
    cell: (row) => plainCell("failed", `${row.failed}`),
  },
  ...FIGURES.map((name) => ({
    head: name,
    value: (row) => row.figures[name].mean,
    cell: (row) => figureCell(row, name),
  })),
  {
    head: "of ceiling", value: (row) => row.share.value,
    cell: (row) => plainCell("of ceiling", row.share.text),
  },
  {
    head: "guide − judge", value: (row) => row.leakage.value,
    cell: (row) => plainCell("guide - judge", row.leakage.text),
  },
  {
    head: "time", value: (row) => columnOf(row).drawn?.seconds ?? null,
    cell: (row) => plainCell("time", secondsText(row)),
  },
  { head: "memory", value: memoryOf, cell: (row) => plainCell("memory", memoryText(row)) },
];

/** Rows without a value come last either way; equal ones keep the table's own order. */
function sorted(rows, column, down) {
  const compared = (a, b) => column.text ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return [...rows].sort((a, b) => {
    const [one, other] = [column.value(a), column.value(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return down ? compared(other, one) : compared(one, other);
  });
}

function sortBy(column) {
  const first = !column.text;
  if (sorting.column !== column) Object.assign(sorting, { column, down: first });
  else if (sorting.down === first) sorting.down = !first;
  else sorting.column = null;
  showTable(column.head);
}

function showTable(focused = null) {
  const table = find("figures");
  const judged = rowsOf(state.judge);
  const shown = COLUMNS.filter((column) => judged.some((row) => column.value(row) !== null));
  const rows = sorting.column ? sorted(judged, sorting.column, sorting.down) : judged;
  table.tHead.replaceChildren(make("tr", {}, ...shown.map((column) => {
    const button = make("button", { type: "button" }, column.head);
    button.addEventListener("click", () => sortBy(column));
    const order = sorting.column === column ? (sorting.down ? "descending" : "ascending") : null;
    return make("th", { scope: "col", "aria-sort": order }, button);
  })));
  table.tBodies[0].replaceChildren(...rows.map((row) =>
    make("tr", { class: row.method ? null : "reference" },
      ...shown.map((column) => column.cell(row)))));
  if (focused) {
    [...table.tHead.querySelectorAll("button")].find((b) => b.textContent === focused).focus();
  }
}

const GROUPS = {
  table: "The two tables that this benchmark sets out to reproduce",
  near: "Of other protocols, not comparable with those either",
};

const SHARED = ["paper", "table", "protocol", "judge", "source"];

/** Figures of one paper, protocol and judge stand under what they share. */
function showPublished() {
  const table = find("published");
  const heads = ["row", "figure", "status", "note"];
  table.append(make("thead", {}, make("tr", {},
    ...heads.map((name) => make("th", { scope: "col" }, name)))));
  for (const [group, title] of Object.entries(GROUPS)) {
    const sets = new Map();
    for (const figure of data.published.filter((each) => each.group === group)) {
      const key = JSON.stringify(SHARED.map((name) => figure[name]));
      sets.set(key, [...(sets.get(key) ?? []), figure]);
    }
    table.append(make("tbody", { class: "part" }, make("tr", {},
      make("th", { scope: "colgroup", colspan: heads.length }, title))));
    for (const figures of sets.values()) {
      const lines = figures.map(publishedRow);
      table.append(make("tbody", {}, sharedBy(figures[0], heads.length), ...lines));
    }
  }
}

function sharedBy(figure, width) {
  const paper = `${figure.paper} ${figure.table}`.trim();
  const said = [figure.protocol, figure.judge ? `judge ${figure.judge}` : "no judge"].join("; ");
  const from = paper ? ["; source ", source(figure)] : [];
  return make("tr", { class: "group" }, make("th", { scope: "rowgroup", colspan: width },
    paper || figure.source, make("small", {}, `Protocol: ${said}`, ...from)));
}

function publishedRow(figure) {
  const number = figure.std ? `${figure.mean} ± ${figure.std}` : figure.mean;
  return make("tr", { class: "of" },
    make("th", { scope: "row" }, figure.row),
    make("td", { class: "number" }, `${figure.metric} ${number}`),
    make("td", {}, figure.status), make("td", {}, figure.note));
}

/** An address only of arXiv; a click alone opens it. */
function source(figure) {
  const id = figure.source.match(/^arXiv (\d{4}\.\d{5})$/);
  if (!id) return figure.source;
  return make("a", { href: `https://arxiv.org/abs/${id[1]}`, rel: "noreferrer" }, figure.source);
}
