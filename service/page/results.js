// Answers as elements: the verdict, bars, neighbours, how far the embedding turned, trust and time.

import { showPicture } from "./api.js";
import { count, el, percent, svg } from "./dom.js";

const SHOWN = 8;
const STAGES = {
  decode: "read the input", queue: "wait for a batch", encode: "encode (CLIP)", weigh: "weigh the labels",
  retrieve: "search the memory", fuse: "refine", total: "in all",
};

function card(title, scores, answer, accent) {
  const right = answer === null ? null : scores.label === answer;
  return el("div", { class: accent ? "card accent" : "card" },
    el("p", { class: "quiet" }, title),
    el("p", { class: "pick" }, scores.label),
    el("p", {}, percent(scores.probabilities[scores.label_index]), right === null ? null : " · ",
      right === null ? null : el("span", { class: right ? "right" : "wrong" }, right ? "right" : "wrong")));
}

export function verdict(item, answer, note) {
  return [
    el("div", { class: item.original ? "cards" : "cards one" },
      item.original ? card("CLIP alone", item.original, answer, false) : null,
      card(item.original ? "With the memory" : "CLIP alone", item, answer, Boolean(item.original))),
    answer === null ? null : el("p", { class: "note" }, `The picture shows: ${answer}. ${note ?? ""}`),
  ];
}

export function bar(kind, name, share) {
  return el("span", { class: `bar ${kind}` },
    el("span", { class: "hidden" }, `${name}: `),
    el("span", { class: "track" }, el("span", { class: "fill", style: { width: `${(100 * share).toFixed(2)}%` } })),
    el("span", { class: "value" }, percent(share)), el("span", { class: "hidden" }, ". "));
}

export function bars(item, labels) {
  const plain = item.original?.probabilities ?? null;
  const best = labels.map((label, place) => ({ label, place, share: item.probabilities[place], plain: plain?.[place] ?? 0 }));
  const rank = (one) => (one.place === item.label_index ? 2 : Math.max(one.share, one.plain));
  best.sort((a, b) => rank(b) - rank(a));
  const row = ({ label, place, share }) => el("li", { class: place === item.label_index ? "first" : null },
    el("span", { class: "name" }, label),
    el("span", { class: "pair" }, plain ? bar("before", "CLIP alone", plain[place]) : null,
      bar(plain ? "after" : "before", plain ? "with the memory" : "CLIP alone", share)));
  const rest = best.slice(SHOWN);
  return el("section", { class: "block", "aria-labelledby": "bars-title" },
    el("h3", { id: "bars-title" }, "Probabilities"),
    plain ? el("p", { class: "legend", "aria-hidden": "true" }, el("span", { class: "key before" }), "CLIP alone",
      el("span", { class: "key after" }), "with the memory") : null,
    el("ol", { class: "bars" }, best.slice(0, SHOWN).map(row)),
    rest.length ? el("details", { class: "rest" }, el("summary", {}, `${count(rest.length)} more labels`),
      el("ol", { class: "bars", start: SHOWN + 1 }, rest.map(row))) : null);
}

// `thumbnails`: whether the memory keeps any; `naming`: neighbours that name this label are marked.
export function gallery(items, { thumbnails, naming = null }) {
  const named = (item) => naming !== null && item.caption.toLowerCase().includes(naming.toLowerCase());
  const thumbnail = (item) => {
    if (!thumbnails || item.thumbnail === false) return null;
    const image = el("img", { alt: "", width: 96, height: 96, loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.classList.add("missing"));
    showPicture(image, `/memory/items/${item.id}/thumbnail`);
    return el("span", { class: "frame" }, image);
  };
  return el("ul", { class: thumbnails ? "gallery" : "gallery bare" }, items.map((item) =>
    el("li", { class: named(item) ? "named" : null }, thumbnail(item),
      el("span", { class: "caption" }, item.caption || item.key),
      item.similarity === undefined ? null : el("span", { class: "quiet" }, `similarity ${item.similarity.toFixed(3)}`),
      named(item) ? el("span", { class: "tag" }, "names it") : null)));
}

export function neighbours(items, options) {
  return el("section", { class: "block", "aria-labelledby": options.id },
    el("h3", { id: options.id }, options.title),
    el("p", { class: "quiet" }, options.told),
    items.length ? gallery(items, options) : el("p", {}, "The memory holds nothing to compare with."));
}

// The angle between two unit vectors, in degrees.
export function angleBetween(a, b) {
  let inner = 0;
  for (let place = 0; place < a.length; place += 1) inner += a[place] * b[place];
  const cosine = Math.min(1, Math.max(-1, inner));
  return { cosine, degrees: (180 / Math.PI) * Math.acos(cosine) };
}

// A half circle: the base line, the angle before in grey, the angle after in the accent.
function dial(after, before = null) {
  const end = (degrees, radius) => {
    const angle = (Math.min(180, degrees) * Math.PI) / 180;
    return `${(62 + radius * Math.cos(angle)).toFixed(1)} ${(60 - radius * Math.sin(angle)).toFixed(1)}`;
  };
  return svg("svg", { class: "dial", viewBox: "0 0 124 64", width: 124, height: 64, "aria-hidden": "true" },
    svg("path", { class: "arc", d: `M${end(0, 56)}A56 56 0 0 0 ${end(180, 56)}` }), svg("path", { class: "base", d: `M62 60H118` }),
    before === null ? null : svg("path", { class: "before", d: `M62 60L${end(before, 52)}` }),
    svg("path", { class: "after", d: `M62 60L${end(after, 52)}` }));
}

const degreesOf = (cosine) => (180 / Math.PI) * Math.acos(Math.min(1, Math.max(-1, cosine)));
const angle = (degrees) => `${degrees.toFixed(degrees < 10 ? 1 : 0)}°`;

// `found`: an embedding beside its original; `item`: the picture's scores, where labels were given.
export function moved(found, item, modality) {
  const { cosine, degrees } = angleBetween(found.original, found.embedding);
  const alone = degrees < 0.05 ? `By itself, the ${modality}'s embedding does not move.`
    : `By itself, the ${modality}'s embedding turns by ${angle(degrees)} (cosine ${cosine.toFixed(3)}).`;
  let told = alone;
  let drawn = dial(degrees);
  if (item?.original) {
    const [before, after] = [item.original, item].map((scores) => scores.similarities[item.label_index]);
    const [from, to] = [degreesOf(before), degreesOf(after)];
    drawn = dial(to, from);
    told = `Between the picture and “${item.label}” the angle went from ${angle(from)} to ${angle(to)} (cosine ${before.toFixed(2)} to ${after.toFixed(2)}). ${alone}`;
  }
  return el("section", { class: "block" }, el("h3", {}, "How far it moved"), el("div", { class: "turned" }, drawn, el("p", {}, told)));
}

const times = (weight) => `${Number(weight.toPrecision(2))}×`;

export function trust(weights) {
  if (!weights) return null;
  const unknown = weights.unknown_labels;
  const none = weights.text === 0 && weights.image === 0;
  const known = unknown === 0 ? `It knows something of every label${none ? ", but the pairs it finds do not tell them apart" : ""}.`
    : `${percent(unknown)} of your labels are unknown to it${none ? ", too many to tell them apart by it" : ""}.`;
  const told = none
    ? "For these labels the memory is not trusted: the answer is CLIP's own."
    : `The memory's evidence counts ${times(weights.text)} for the labels and ${times(weights.image)} for the picture; at 0× the answer would be CLIP's own.`;
  return el("section", { class: "block" }, el("h3", {}, "Trust in the memory"), el("p", {}, `${told} ${known}`));
}

export function timing(stages) {
  if (stages.length === 0) return null;
  const most = Math.max(...stages.map((stage) => stage.ms), 0.001);
  return el("section", { class: "block", "aria-labelledby": "time-title" },
    el("h3", { id: "time-title" }, "Time"),
    el("ul", { class: "times" }, stages.map(({ name, ms }) => el("li", { class: name === "total" ? "total" : null },
      el("span", { class: "name" }, STAGES[name] ?? name),
      el("span", { class: "track" }, el("span", { class: "fill", style: { width: `${((100 * ms) / most).toFixed(1)}%` } })),
      el("span", { class: "value" }, `${ms.toFixed(1)} ms`)))));
}
