"use strict";
// Text from outside becomes text nodes and attributes, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const state = { judge: data.judges[0].name };

const find = (id) => document.getElementById(id);

/** An element ("svg:line" for SVG's) with attributes, of which null and false are left out. */
function make(name, attributes = {}, ...children) {
  const svg = name.startsWith("svg:");
  const node = svg ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** As `--share` of a style, 0 to 100%. */
function shared(node, value) {
  node.style.setProperty("--share", `${Math.round(100 * Math.min(1, Math.max(0, value)))}%`);
  return node;
}

const swatch = (index) => {
  const node = make("i", { class: "swatch" });
  node.style.background = data.colours[index];
  return node;
};

const rowsOf = (judge) => data.rows.filter((row) => row.judge === judge);
const columnOf = (row) => data.columns[row.column];

/** A row's name; the ceiling's second row has what tells it from the first. */
function nameOf(row) {
  if (row.ignore === data.ignore) return columnOf(row).name;
  return `${columnOf(row).name}, dropped objects ${row.ignore === "none" ? "counted" : "ignored"}`;
}

const two = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const listed = (words) => words.length < 2 ? words.join("")
  : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;

/** Whether a judge can be taken at its word; `few` where there is room for few words. */
function judgeNote(judge, few = false) {
  if (judge.guide) return "guides TCIG";
  const rows = (names) => (few ? count(names.length, "row") : listed(names));
  if (judge.guided.length) return `guided ${rows(judge.guided)}`;
  if (!judge.unknown.length) return "independent";
  return few ? "unknown" : `independence unknown for ${rows(judge.unknown)}`;
}

function head() {
  const layouts = new Set(data.samples.map((sample) => sample.layout)).size;
  const several = data.samples.length > layouts
    ? `, ${count(data.samples.length, "sample")} in all` : "";
  const methods = data.columns.filter((column) => column.method).length;
  const references = data.columns.length - methods;
  const rows = [
    methods ? count(methods, "method") : null,
    references ? count(references, "reference") : null,
  ];
  const judges = data.judges.map((judge) => `${judge.name} (${judgeNote(judge)})`);
  find("lead").textContent =
    `${listed(rows.filter(Boolean))} on ${count(layouts, "layout")}${several}. Every image is ` +
    "segmented again by a judge; its IoU is between what the judge sees and the masks that the " +
    `image was to keep to. ${judges.length > 1 ? "Judges" : "Judge"}: ${listed(judges)}.`;
  find("terms").append(...Object.entries(data.quality).flatMap(([name, note]) =>
    [make("dt", {}, name), make("dd", {}, note.slice(name.length + 2))]));
  find("alpha").textContent = `${100 * data.alpha}%`;
  find("other-samples").hidden = data.same_samples;
  find("foot").textContent =
    `Made by tcig ${data.made.tcig} on ${dateOf(data.made)}. Nothing is loaded from anywhere else.`;
}

const dateOf = (made) => made.at.replace("T", " ").replace("+00:00", " UTC");
const revision = (made) => made.revision === null ? "not a checkout"
  : made.revision + (made.dirty ? ", with uncommitted changes" : "");

function provenance() {
  const made = data.made;
  const versions = Object.entries(made.packages).map(([name, version]) => `${name} ${version}`);
  const filter = Object.entries(data.header.filter).map(([key, value]) => `${key} ${value}`);
  const sources = data.header.sources.map((each) => `${each.file} ${each.sha256.slice(0, 12)}`);
  const facts = {
    "command": make("code", {}, made.command),
    "date": dateOf(made),
    "tcig": `${made.tcig}, revision ${revision(made)}`,
    "packages": `Python ${made.python}, ${versions.join(", ")}`,
    "device": `${made.device}; ${made.processor}, ${count(made.cores, "core")}, ` +
      `${made.memory_gib} GiB; ${made.system}`,
    "manifest": make("code", {}, data.manifest),
    "filter": filter.join(", "),
    "made from": sources.join(", "),
    "dropped objects": data.ignore === "none" ? "count as errors" : "are ignored",
  };
  for (const judge of data.judges) {
    facts[`judge ${judge.name}`] = `${judgeNote(judge)}; ${judge.identity.slice(0, 12)}, ` +
      `compared at ${judge.score_size} px`;
  }
  find("made").append(...Object.entries(facts).map(([key, value]) =>
    make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value))));
  find("drawn").append(...data.columns.map(drawnOf));
}

function drawnOf(column) {
  const summary = make("summary", {}, column.name);
  const drawn = column.drawn;
  if (!drawn) {
    return make("details", {}, summary,
      make("p", {}, `${column.folder}: images from elsewhere, of which nothing is recorded.`));
  }
  const shown = { ...drawn.spec, folder: column.folder };
  return make("details", {}, summary,
    make("p", {}, `Drawn on ${listed(drawn.devices) || "an unrecorded device"}.`),
    make("pre", {}, JSON.stringify(shown, null, 1)));
}

function judgeSwitch() {
  find("judges").append(...data.judges.map((judge) => {
    const input = make("input", {
      type: "radio", name: "judge", value: judge.name, checked: judge.name === state.judge,
    });
    input.addEventListener("change", () => {
      state.judge = judge.name;
      showJudge();
    });
    return make("label", {}, input,
      make("span", {}, judge.name, make("em", {}, judgeNote(judge, true))));
  }));
}

function showJudge() {
  const judge = data.judges.find((each) => each.name === state.judge);
  find("judged").textContent = `Under ${judge.name}, which guided ` +
    `${judge.guided.length ? listed(judge.guided) : "none of these rows"}` +
    `${judge.unknown.length ? `; unknown for ${listed(judge.unknown)}` : ""}.`;
  showTable();
  showIntervals();
  showClasses();
  showPanels();
  showGallery(true);
}

document.addEventListener("DOMContentLoaded", () => picturesAreHere());
