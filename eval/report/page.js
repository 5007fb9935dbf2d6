"use strict";
// Tables, plots and entries stand in the page. This script sorts, filters and fills in pictures.
const find = (id) => document.getElementById(id);
const all = (selector, node = document) => [...node.querySelectorAll(selector)];

// The tables: sorted by a column, then the other way round, then in their own order.
const tables = all(".results").map((table) => ({ table, rows: [...table.tBodies[0].rows] }));
const sorting = { name: null, descending: true };

const isEmpty = (text) => text === "" || text === "-";
const compare = (one, two) => // as numbers, else as names
  parseFloat(one) - parseFloat(two) || one.localeCompare(two, "en");

function sortBy(name) {
  const descendingFirst = name !== "row";
  if (sorting.name !== name) Object.assign(sorting, { name, descending: descendingFirst });
  else if (sorting.descending === descendingFirst) sorting.descending = !descendingFirst;
  else sorting.name = null;
  for (const { table, rows } of tables) {
    const heads = [...table.tHead.rows[0].cells];
    const place = heads.findIndex((head) => head.textContent === sorting.name);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    if (place >= 0) {
      heads[place].setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
    }
    const text = (row) => row.cells[place]?.textContent.trim() ?? "";
    table.tBodies[0].append(...rows.toSorted((a, b) => {
      const [one, two] = [text(a), text(b)];
      if (isEmpty(one) || isEmpty(two)) return isEmpty(one) - isEmpty(two); // these come last
      return sorting.descending ? compare(two, one) : compare(one, two);
    }));
  }
}

all(".results button").forEach((button) => {
  button.addEventListener("click", () => sortBy(button.textContent));
});

// The gallery: entries are filtered and ordered by their scores under the chosen judge.
const columns = all(".chips input");
const entries = all(".entry").map((node) => ({
  node, classes: node.dataset.classes.split(" "), scores: JSON.parse(node.dataset.scores),
}));
const judge = () => Number(document.querySelector("#judges :checked").value);

function mean(scores) {
  const shown = columns.filter((column) => column.checked);
  const methods = shown.filter((column) => "method" in column.dataset);
  const values = (methods.length ? methods : shown)
    .map((column) => scores[columns.indexOf(column)]).filter((value) => value !== null);
  return values.length ? values.reduce((a, b) => a + b) / values.length : null;
}

function difference(scores) {
  const [one, two] = ["one", "two"].map((id) => scores[find(id).value]);
  return one === null || two === null ? null : one - two;
}

const keys = {
  id: () => 0,
  worst: (score) => score,
  best: (score) => -score,
  difference: (score, gap) => -Math.abs(gap),
};

function showGallery() {
  const [order, by, wanted, low, high] = ["order", "by", "class", "low", "high"]
    .map((id) => find(id).value);
  const shown = entries.map((entry) => {
    const scores = entry.scores[judge()];
    const score = by === "mean" ? mean(scores) : scores[by];
    const gap = difference(scores);
    const missing = (order === "difference" ? gap : score) === null && order !== "id";
    const inside = score === null ? low <= 0 && high >= 1 : score >= low && score <= high;
    entry.node.hidden = !inside || (wanted !== "" && !entry.classes.includes(wanted));
    entry.node.querySelector(".score").textContent = order === "difference" && gap !== null
      ? `; difference ${gap.toFixed(2)}`
      : score === null ? "; no score" : `; score ${score.toFixed(2)}`;
    return { ...entry, key: missing ? Infinity : keys[order](score, gap) };
  });
  find("entries").append(...shown.sort((a, b) => a.key - b.key || 0).map(({ node }) => node));
  find("difference").hidden = order !== "difference";
  const count = shown.filter(({ node }) => !node.hidden).length;
  find("count").textContent = `${count} of ${entries.length} samples`;
}

const methods = columns.filter((column) => "method" in column.dataset);
(methods.length > 1 ? methods : columns).slice(-2).forEach((column, place) => {
  find(["one", "two"][place]).value = columns.indexOf(column);
});
find("controls").addEventListener("change", showGallery);
find("judges").addEventListener("change", showGallery);
showGallery();

// Pictures are cut out of their text when an entry comes near.
const near = new IntersectionObserver((seen) => {
  seen.filter((each) => each.isIntersecting).forEach((each) => reveal(each.target));
}, { rootMargin: "400px" });

function reveal(entry) {
  near.unobserve(entry);
  const pictures = find("pictures").textContent;
  for (const image of all("img[data-place]", entry)) {
    const [start, length] = image.dataset.place.split(" ").map(Number);
    const text = pictures.slice(start, start + length);
    image.src = `data:image/${image.dataset.kind};base64,${text}`;
    delete image.dataset.place;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  entries.forEach(({ node }) => near.observe(node));
});
addEventListener("beforeprint", () => {
  entries.filter(({ node }) => !node.hidden).forEach(({ node }) => reveal(node));
});

// An enlarged image stands beside itself with the judge's label map and the masks' outline.
const dialog = find("enlarged");
let enlarged = null;

function enlarge(cell) {
  enlarged = cell;
  const caption = cell.querySelector(`figcaption.judge-${judge()}`);
  find("enlarged-title").textContent = cell.querySelector(".name").textContent;
  const about = `${cell.closest(".entry").dataset.caption}: ${caption.textContent}`;
  find("enlarged-scores").textContent = caption.title ? `${about} (${caption.title})` : about;
  dialog.querySelector(".pictures").replaceChildren(...["", "marked"].map((kind) => {
    const frame = document.createElement("div");
    frame.className = `frame ${kind}`;
    frame.append(...cell.querySelector(".frame").cloneNode(true).children);
    return frame;
  }));
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const cells = all(".cell:has(button)", enlarged.parentNode)
    .filter((cell) => cell.checkVisibility());
  enlarge(cells.at((cells.indexOf(enlarged) + by) % cells.length));
}

find("entries").addEventListener("click", (event) => {
  const frame = event.target.closest("button.frame");
  if (frame) enlarge(frame.parentNode);
});
find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
