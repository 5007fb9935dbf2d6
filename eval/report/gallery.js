// Every image: filtered, ordered, built as one scrolls; pictures are cut out of the text then.
const CHUNK = 12;
const severalSamples = data.samples.some((each) => each.sample > 0);
const shown = { entries: [], built: 0 };
const columnsShown = () => data.columns.map((_, index) => index)
  .filter((index) => find(`column-${index}`).checked);

let pictures = null; // the text of all, once the document has ended
const waiting = new Set();
const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (isIntersecting) reveal(target);
  }
}, { rootMargin: "400px" });
const end = new IntersectionObserver((seen) => {
  if (seen.some((each) => each.isIntersecting)) build(CHUNK);
}, { rootMargin: "800px" });

function picturesAreHere() {
  pictures = find("pictures").textContent;
  waiting.forEach(reveal);
  waiting.clear();
}

function reveal(entry) {
  if (pictures === null) {
    waiting.add(entry);
    return;
  }
  near.unobserve(entry);
  for (const image of entry.querySelectorAll("img[data-place]")) {
    const [start, length] = image.dataset.place.split(" ").map(Number);
    image.src = `data:${image.dataset.type};base64,${pictures.slice(start, start + length)}`;
    delete image.dataset.place;
  }
}

const picture = (place, type, attributes) =>
  make("img", { ...attributes, "data-type": type, "data-place": place.join(" ") });

const judgedBy = (sample, column) => sample.cells[column]?.judged?.[state.judge] ?? null;
const scoreOf = (sample, column) => judgedBy(sample, column)?.iou ?? null;

function meanOf(sample, columns) {
  const methods = columns.filter((index) => data.columns[index].method);
  const values = (methods.length ? methods : columns).map((index) => scoreOf(sample, index))
    .filter((value) => value !== null);
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
}

function differenceOf(sample) {
  const [one, two] = [scoreOf(sample, +find("one").value), scoreOf(sample, +find("two").value)];
  return one === null || two === null ? null : one - two;
}

/** The samples that pass the filters, in order, each with the score that it is filtered by. */
function selected() {
  const columns = columnsShown();
  const [order, by, wanted] = ["order", "by", "class"].map((id) => find(id).value);
  const [low, high] = ["low", "high"].map((id) => Number(find(id).value));
  const entries = data.samples.map((sample, place) => ({
    sample, place,
    score: by === "mean" ? meanOf(sample, columns) : scoreOf(sample, +by),
    difference: differenceOf(sample),
  })).filter(({ sample, score }) =>
    (wanted === "" || sample.classes.includes(+wanted)) &&
    (score === null ? low <= 0 && high >= 1 : score >= low && score <= high));
  const keys = {
    worst: (entry) => entry.score,
    best: (entry) => entry.score === null ? null : -entry.score,
    difference: (entry) => entry.difference === null ? null : -Math.abs(entry.difference),
  };
  const byId = (a, b) => a.sample.layout.localeCompare(b.sample.layout, "en", { numeric: true }) ||
    a.sample.sample - b.sample.sample;
  const key = keys[order] ?? (() => 0);
  return entries.sort((a, b) => {
    const [one, other] = [key(a), key(b)];
    if (one === null || other === null) return (one === null) - (other === null) || byId(a, b);
    return one - other || byId(a, b);
  });
}

/** `kept`: as many entries as were built before, so that the page does not move. */
function showGallery(kept = false) {
  const before = shown.built;
  near.disconnect();
  waiting.clear();
  Object.assign(shown, { entries: selected(), built: 0 });
  find("entries").replaceChildren();
  find("difference").hidden = find("order").value !== "difference";
  find("count").textContent = shown.entries.length === data.samples.length
    ? count(data.samples.length, "sample")
    : `${shown.entries.length.toLocaleString("en")} of ${count(data.samples.length, "sample")}`;
  build(kept ? Math.max(before, CHUNK) : CHUNK);
}

function build(number) {
  const columns = columnsShown();
  const next = shown.entries.slice(shown.built, shown.built + number).map((e) => entry(e, columns));
  shown.built += next.length;
  find("entries").append(...next);
  next.forEach((node) => near.observe(node));
  const left = shown.entries.length - shown.built;
  find("more").textContent = left ? `${left.toLocaleString("en")} more follow on scrolling.` : "";
  end.unobserve(find("more")); // observed anew, it tells again whether it is in view
  if (left) end.observe(find("more"));
}

function entry({ sample, place, score, difference }, columns) {
  const note = find("order").value === "difference" && difference !== null
    ? `difference ${difference > 0 ? "+" : ""}${two(difference)}`.replace("-", "−")
    : score === null ? "no score" : `score ${two(score)}`;
  const which = severalSamples ? `${sample.layout}, sample ${sample.sample}` : sample.layout;
  const head = make("h3", {}, sample.caption, make("small", {}, `layout ${which}; ${note}`));
  const key = make("div", { class: "key" },
    ...sample.classes.map((index) => make("span", {}, swatch(index), data.labels[index])));
  const mask = picture(data.places.masks[place], "image/png", { alt: maskText(sample) });
  const first = make("figure", { class: "cell" }, make("span", { class: "name" }, "mask"),
    make("span", { class: "frame mask" }, mask), make("figcaption", {}, key));
  const scores = columns.filter((index) => data.columns[index].method)
    .map((index) => scoreOf(sample, index) ?? -1);
  const best = scores.length > 1 ? Math.max(...scores) : null;
  const cells = columns.map((index) => cell(sample, place, index, best));
  const node = make("article", { class: "entry" }, head,
    make("div", { class: "cells" }, first, ...cells));
  if (columns.some((index) => judgedBy(sample, index))) node.append(byClass(sample, columns));
  return node;
}

const maskText = (sample) =>
  `Mask: ${listed(sample.classes.map((index) => data.labels[index]))}`;

function cell(sample, place, index, best) {
  const column = data.columns[index];
  const name = make("span", { class: "name", title: column.name }, column.name);
  const found = sample.cells[index];
  const image = data.places.images[place][index];
  if (!found || !image) {
    const [kind, text] = found ? ["failed", `failed: ${found.error}`] : ["absent", "not asked for"];
    return make("figure", { class: "cell" }, name, make("div", { class: `frame ${kind}` }, text));
  }
  const said = judgedBy(sample, index);
  const overlay = data.places.overlays[state.judge][place][index];
  const title = said ? classTexts(sample, said).join(", ") : `not judged by ${state.judge}`;
  const frame = make("button", {
    class: "frame", type: "button", title, "aria-pressed": "false",
    "aria-label": `${column.name}: ${title}. Show what the judge saw`,
  }, picture(image, "image/webp", { alt: "" }),
  overlay ? picture(overlay, "image/png", { alt: "", class: "seen" }) : null);
  frame.addEventListener("click", () =>
    frame.setAttribute("aria-pressed", frame.getAttribute("aria-pressed") === "false"));
  const iou = said?.iou ?? null;
  const bar = make("i", { class: "bar-of" }, shared(make("i"), iou ?? 0));
  const strong = column.method && best !== null && iou === best;
  return make("figure", { class: "cell", "data-column": index }, name, frame,
    make("figcaption", { class: strong ? "best" : null }, bar, two(iou)));
}

const classTexts = (sample, said) => sample.classes.map((index, at) =>
  `${data.labels[index]} ${said.classes[at] === null ? "covered" : two(said.classes[at])}`);

/** IoU of every class, made when it is opened. */
function byClass(sample, columns) {
  const node = make("details", {}, make("summary", {}, "class by class"));
  node.addEventListener("toggle", () => {
    if (node.children.length > 1) return;
    const labels = sample.classes.map((index) => data.labels[index]);
    const heads = ["row", "iou_image", "iou_foreground", ...labels];
    const lines = columns.filter((index) => judgedBy(sample, index)).map((index) => {
      const said = judgedBy(sample, index);
      const values = [said.iou, said.foreground, ...said.classes];
      return make("tr", {}, make("th", { scope: "row" }, data.columns[index].name),
        ...values.map((value) =>
          make("td", { class: "number" }, value === null ? "covered" : value.toFixed(3))));
    });
    node.append(make("div", { class: "scroll" }, make("table", { class: "plain" },
      make("thead", {}, make("tr", {}, ...heads.map((h) => make("th", { scope: "col" }, h)))),
      make("tbody", {}, ...lines))));
  });
  return node;
}

function galleryControls() {
  const choices = (id, pairs) =>
    find(id).append(...pairs.map(([value, text]) => make("option", { value }, text)));
  const columns = data.columns.map((column, index) => [index, column.name]);
  choices("order", [["id", "by id"], ["worst", "worst first"], ["best", "best first"],
    ...(columns.length > 1 ? [["difference", "largest difference"]] : [])]);
  choices("by", [["mean", "the methods’ mean"], ...columns]);
  choices("one", columns);
  choices("two", columns);
  const methods = columns.filter(([index]) => data.columns[index].method);
  const [one, two] = methods.length > 1 ? methods.slice(-2) : columns.slice(-2);
  find("one").value = one[0];
  find("two").value = (two ?? one)[0];
  const present = new Set(data.samples.flatMap((sample) => sample.classes));
  const classes = [...present].sort((a, b) => a - b);
  choices("class", [["", "any"], ...classes.map((index) => [index, data.labels[index]])]);
  find("shown").append(...columns.map(([index, name]) => make("label", { class: "check" },
    make("input", { type: "checkbox", id: `column-${index}`, checked: true }), ` ${name}`)));
  find("class-legend").append(...data.labels.slice(1).map((label, index) =>
    make("span", {}, swatch(index + 1), label)));
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  find("controls").addEventListener("change", (event) => {
    if (event.target.id !== "all-seen") return showGallery();
    find("entries").classList.toggle("all-seen", event.target.checked);
  });
  addEventListener("beforeprint", () => {
    for (const node of find("entries").children) reveal(node);
  });
}

head();
provenance();
judgeSwitch();
showPublished();
galleryControls();
showJudge();
