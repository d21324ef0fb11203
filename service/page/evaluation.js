// The view "Evaluation": what `reco eval -o` measured of the checkpoint that is served.

import { ask } from "./api.js";
import { chart } from "./chart.js";
import { byId, count, el, show, showError, tenths } from "./dom.js";
import { bar } from "./results.js";

const SCORINGS = {
  none: "CLIP alone", image: "picture refined", text: "text refined", both: "both refined", ensemble: "sum of the four",
};
const SECTIONS = {
  zero_shot: "Naming the picture", entities: "Seen and unseen entities",
  text_to_image: "Text finds picture", image_to_text: "Picture finds text",
};
const HEADLINES = { zero_shot: "top-1", entities: "harmonic mean" };
const headline = (section) => HEADLINES[section] ?? "R@1";
const sectionName = (name) => SECTIONS[name] ?? name.replaceAll("_", " ");
const number = (value) => (value === null || value === undefined ? "–" : tenths(value));
const signed = (value) => `${value < 0 ? "−" : "+"}${tenths(Math.abs(value))}`;
let shown = 0;

const interval = (figure) =>
  figure.interval ? `95 % between ${signed(figure.interval[0])} and ${signed(figure.interval[1])}` : null;

// The one thing to read: before, after, and by how much.
function summary(task, mode) {
  const [section] = Object.keys(task.measures);
  const figures = task.measures[section][headline(section)];
  if (!figures?.none || !figures[mode]) return null;
  const after = figures[mode];
  const what = `${headline(section)} in %, ${count(task.images)} pictures, ${count(task.texts)} ${task.kind === "retrieval" ? "captions" : "classes"}`;
  return [
    el("div", { class: "cards" },
      el("div", { class: "card" }, el("p", { class: "quiet" }, "CLIP alone"), el("p", { class: "pick" }, number(figures.none.mean))),
      el("div", { class: "card accent" }, el("p", { class: "quiet" }, "With the memory"), el("p", { class: "pick" }, number(after.mean)),
        after.gain === null ? null : el("p", {}, `${signed(after.gain)} points`, interval(after) ? el("span", { class: "quiet" }, ` · ${interval(after)}`) : null))),
    el("p", { class: "note" }, what),
  ];
}

function figureCell(figure) {
  if (!figure) return el("td", {}, "–");
  const sure = figure.interval && (figure.interval[0] > 0 || figure.interval[1] < 0);
  return el("td", {}, number(figure.mean), figure.spread ? ` ± ${number(figure.spread)}` : null,
    figure.gain === null ? null : el("span", { class: !sure ? "gain quiet" : figure.gain < 0 ? "gain less" : "gain", title: interval(figure) ?? "" }, ` ${signed(figure.gain)}`));
}

// A wide table scrolls by itself, and by the keyboard.
const scrolled = (name, table) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table);

function table(section, measures) {
  const names = Object.keys(measures);
  const scorings = Object.keys(SCORINGS).filter((one) => names.some((name) => measures[name][one]));
  return scrolled(sectionName(section), el("table", {},
    el("caption", {}, sectionName(section)),
    el("thead", {}, el("tr", {}, el("td"), names.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, scorings.map((scoring) => el("tr", { class: scoring === "both" ? "first" : null },
      el("th", { scope: "row" }, SCORINGS[scoring]), names.map((name) => figureCell(measures[name][scoring])))))));
}

function curves(task) {
  const kinds = [["memory_size", "More pairs", "items in the memory", true], ["neighbours", "More neighbours", "neighbours a query (k)", false]];
  return el("div", { class: "columns" }, kinds.map(([field, title, axis, logarithmic]) => {
    const section = Object.keys(task.measures)[0];
    const points = task[field].filter((point) => point[section]);
    if (points.length < 2) return null;
    const series = ["none", "image", "text", "both"].map((scoring) => ({
      name: SCORINGS[scoring], kind: scoring, points: points.map((point) => [point.at, point[section][scoring]]).filter(([, y]) => Number.isFinite(y)),
    }));
    return el("section", { class: "block" }, el("h2", {}, title),
      el("p", { class: "quiet" }, field === "memory_size" ? "Where it still rises at its right end, more pairs will help more." : "Measured on the test itself: read the shape."),
      chart(`${title}: ${headline(section)} in %`, series, { axis, logarithmic }));
  }));
}

function classes(task) {
  if (!task.per_class.length) return null;
  const row = (one) => el("li", {}, el("span", { class: "name" }, one.class),
    el("span", { class: "pair" }, bar("before", "CLIP alone", one.before / 100), bar("after", "with the memory", one.after / 100)));
  const gained = task.per_class.filter((one) => one.after > one.before).slice(0, 8);
  const lost = task.per_class.filter((one) => one.after < one.before).slice(-8).reverse();
  const list = (title, some, none) => el("section", { class: "block" }, el("h2", {}, title),
    some.length ? el("ol", { class: "bars" }, some.map(row)) : el("p", { class: "quiet" }, none));
  return el("div", { class: "columns" },
    list("Classes that gained most", gained, "No class gained."), list("Classes that lost most", lost, "No class lost."));
}

function comparison(told) {
  if (!told) return null;
  const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
  const cell = (values) => {
    const spread = (Math.max(...values) - Math.min(...values)) / 2;
    return el("td", {}, number(mean(values)), spread ? ` ± ${number(spread)}` : null);
  };
  return el("section", { class: "block" },
    el("h2", {}, "Beside the controls"), told.note ? el("p", { class: "lead small" }, told.note) : null,
    scrolled(told.title, el("table", {}, el("caption", {}, told.title),
      el("thead", {}, el("tr", {}, el("td"), told.columns.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, Object.entries(told.rows).map(([method, values]) => el("tr", { class: method === "RECO" ? "first" : null },
        el("th", { scope: "row" }, method), values.map(cell)))))));
}

function showTask(told) {
  const task = told.tasks[shown];
  const mode = told.settings.mode_shown;
  for (const [place, button] of [...byId("evaluation-tasks").querySelectorAll("button")].entries()) {
    button.setAttribute("aria-pressed", String(place === shown));
  }
  const copies = task.duplicates.items
    ? `${count(task.duplicates.items)} items of the memory are near-copies of ${count(task.duplicates.images)} test pictures; “without copies” leaves them out.` : null;
  show(byId("evaluation-task"), summary(task, mode),
    [...task.notes, copies].filter(Boolean).map((note) => el("p", { class: "note" }, note)),
    Object.entries(task.measures).map(([name, measures]) => table(name, measures)), curves(task), classes(task));
}

function notices(told) {
  const said = [];
  if (!told.same_fusion) said.push("These figures are of another checkpoint than the one being served.");
  else if (!told.same_memory) said.push(`The memory has changed since: these figures are of version ${told.memory.version}, with ${count(told.memory.items)} items.`);
  return said.map((sentence) => el("p", { class: "notice" }, sentence));
}

function showEvaluation(told) {
  if (!told.found) {
    return show(byId("evaluation-body"), el("p", { class: "notice" }, told.reason),
      el("p", {}, "Measure it, and look here again:"),
      el("pre", { tabindex: "0", role: "region", "aria-label": "command" }, el("code", {}, "reco eval my-memory my-fusion test-images/ --model MODEL -o my-fusion/evaluation")));
  }
  shown = Math.min(shown, told.tasks.length - 1);
  show(byId("evaluation-body"), notices(told),
    el("div", { class: "chips", id: "evaluation-tasks", role: "group", "aria-label": "Tasks" }, told.tasks.map((task, place) =>
      el("button", { type: "button", class: "plain", on: { click: () => { shown = place; showTask(told); } } }, task.name))),
    el("div", { id: "evaluation-task" }), comparison(told.comparison),
    told.gallery ? el("p", { class: "note" }, el("a", { href: "/evaluation/gallery" }, "Look at single pictures"), ": where it helped, where it harmed, and some drawn at random.") : null);
  showTask(told);
}

// Read anew each time the view is opened: `reco eval` may have run meanwhile.
export async function openEvaluation() {
  showError(byId("evaluation-error"), null);
  byId("evaluation-body").setAttribute("aria-busy", "true");
  try {
    showEvaluation((await ask("/evaluation")).body);
  } catch (error) {
    show(byId("evaluation-body"));
    showError(byId("evaluation-error"), error);
  }
  byId("evaluation-body").setAttribute("aria-busy", "false");
}
