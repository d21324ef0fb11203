// The view "Try": one picture or text, with and without the memory.

import { ask, askForm, askJson } from "./api.js";
import { curlBlock, jsonCurl, pictureCurl } from "./curl.js";
import { afterMotion, byId, el, lines, show, showError } from "./dom.js";
import { listenForPictures, picture, sampleAddress, setPicture, showSamples } from "./picture.js";
import { bars, moved, neighbours, timing, trust, verdict } from "./results.js";

const memory = { enhancement: true, thumbnails: false }; // what /memory told, once it did
const DEFAULT_PROMPT = "a photo of a {}."; // the service's own
let running = null;
let note = null;

export const setMemory = (told) => Object.assign(memory, told);
const mode = () => document.querySelector("input[name=mode]:checked").value;

function wait(busy) {
  byId("answer").setAttribute("aria-busy", String(busy));
  byId("go").disabled = busy;
}

function placeholder() {
  show(byId("verdict"), el("p", { class: "quiet" }, mode() === "image"
    ? "Give a picture and the labels to tell apart, and compare."
    : "Type a text to see which items of the memory are nearest to it."));
  show(byId("details"));
}

function fail(error) {
  showError(byId("try-error"), error);
  placeholder();
  show(byId("verdict"));
}

// In JSON a number is a number; in a form it is a word.
const options = (fields, json = false) => {
  const k = byId("k").value.trim();
  return k === "" ? fields : { ...fields, k: json ? Number(k) : k };
};

function nameOf(labels, templates) {
  return (pointer) => {
    const [, list, place] = pointer.split("/");
    if (list === "labels" && labels[Number(place)] !== undefined) return `Label ${Number(place) + 1} (“${labels[Number(place)].slice(0, 40)}”)`;
    if (list === "templates") return templates[Number(place)] === undefined ? "Prompts" : `Prompt ${Number(place) + 1}`;
    return { k: "Neighbours", texts: "Text", files: "Picture", images: "Picture" }[list] ?? null;
  };
}

async function comparePicture(signal) {
  if (picture.file === null) throw new Error("Choose a picture first.");
  const asked = { ...picture, note };
  const [labels, templates] = [lines(byId("labels").value), lines(byId("templates").value)];
  const name = nameOf(labels, templates);
  const fields = options({ labels: JSON.stringify(labels), compare: String(memory.enhancement) });
  if (templates.length) fields.templates = JSON.stringify(templates);
  // One after the other, so that the times shown are those of a request that has the service to itself.
  const classified = labels.length ? await askForm("/classify", asked.file, fields, { signal }, name) : null;
  const look = options({ return_original: "true", return_neighbours: "true" });
  const embedded = await askForm("/embed/image", asked.file, look, { signal }, name);
  const item = classified?.body.data[0] ?? null;
  const found = embedded.body.data[0];
  const prompt = item?.original ? (templates[0] ?? DEFAULT_PROMPT).replace("{}", item.label) : null;
  const known = prompt === null ? null
    : (await askJson("/embed/text", options({ texts: prompt, return_neighbours: true, enhance: false }, true), { signal }, name)).body.data[0];
  show(byId("verdict"), item ? verdict(item, labels.includes(asked.answer) ? asked.answer : null, asked.note)
    : el("p", {}, "Without labels there is nothing to choose from: these are the picture's neighbours."),
    labels.length === 1 ? el("p", { class: "note" }, "One label is always the answer: give two or more to tell apart.") : null,
    item && !item.original ? el("p", { class: "note" }, "This service has no fusion checkpoint, so there is no refined answer beside CLIP's.") : null);
  const sent = classified ? ["/classify", fields] : ["/embed/image", look];
  show(byId("details"), item ? bars(item, labels) : null,
    known === null ? null : neighbours(known.neighbours ?? [], {
      id: "known-title", title: `What the memory knows of “${item.label}”`,
      told: `The items whose captions are nearest to the prompt “${prompt}”. Their pictures refine the label.`,
      thumbnails: memory.thumbnails, naming: item.label,
    }),
    neighbours(found.neighbours ?? [], {
      id: "near-title", title: "What the memory found near the picture",
      told: "The items whose pictures are nearest. Their captions refine the picture's embedding.",
      thumbnails: memory.thumbnails, naming: item?.original ? item.label : null,
    }),
    el("div", { class: "columns" }, trust(classified?.body.trust), memory.enhancement ? moved(found, item, "picture") : null),
    timing((classified ?? embedded).stages), curlBlock(pictureCurl(sent[0], asked, sent[1])));
}

async function compareText(signal) {
  const text = byId("text").value.trim();
  if (text === "") throw new Error("Type a text first.");
  const body = options({ texts: text, return_original: true, return_neighbours: true }, true);
  const answered = await askJson("/embed/text", body, { signal }, nameOf([], []));
  const found = answered.body.data[0];
  const nearest = found.neighbours?.[0];
  show(byId("verdict"), el("p", {}, nearest ? `Nearest caption: “${nearest.caption}”` : "The memory holds nothing to compare with."),
    found.truncated ? el("p", { class: "note" }, "The text is longer than the encoder reads; its end was left out.") : null);
  show(byId("details"), neighbours(found.neighbours ?? [], {
    id: "near-title", title: "What the memory found", told: "The items whose captions are nearest. Their pictures refine the embedding.",
    thumbnails: memory.thumbnails,
  }), memory.enhancement ? moved(found, null, "text") : null, timing(answered.stages), curlBlock(jsonCurl("/embed/text", body)));
}

async function compare({ follow = false } = {}) {
  running?.abort();
  const mine = (running = new AbortController());
  showError(byId("try-error"), null);
  wait(true);
  if (byId("verdict").childElementCount < 1 || byId("details").childElementCount < 1) {
    show(byId("details"), el("div", { class: "skeleton", "aria-hidden": "true" }, [1, 2, 3, 4, 5].map(() => el("span"))));
  }
  try {
    await (mode() === "image" ? comparePicture(mine.signal) : compareText(mine.signal));
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(error);
  } finally {
    if (running === mine) wait(false);
  }
  if (follow && window.matchMedia("(max-width: 60rem)").matches) {
    byId("answer").scrollIntoView({ behavior: afterMotion(), block: "start" });
  }
}

async function pick(sample, follow) {
  try {
    const answer = await fetch(sampleAddress(sample));
    if (!answer.ok) throw new Error("This picture is no longer there.");
    setPicture(await answer.blob(), { name: sample.name, sample: sample.name, answer: sample.answer });
  } catch (error) {
    return fail(error);
  }
  note = sample.note;
  if (sample.labels.length) byId("labels").value = sample.labels.join("\n");
  if (sample.templates.length) byId("templates").value = sample.templates.join("\n");
  return compare({ follow });
}

// From elsewhere on the page: a picture, and a label that is to be among those on the list.
export function askAbout(file, label) {
  location.hash = "try";
  byId("labels").value = [...new Set([label, ...lines(byId("labels").value)])].join("\n");
  document.querySelector("input[name=mode][value=image]").click();
  setPicture(file);
  note = null;
  compare({ follow: true });
}

export async function startTry() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    compare({ follow: true });
  });
  byId("ask").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare({ follow: true });
  });
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.addEventListener("change", () => {
      running?.abort();
      wait(false);
      byId("image-fields").hidden = mode() !== "image";
      byId("text-fields").hidden = mode() !== "text";
      byId("go").textContent = mode() === "image" ? "Compare" : "Find";
      showError(byId("try-error"), null);
      placeholder();
    });
  }
  listenForPictures(() => { note = null; if (lines(byId("labels").value).length) compare({ follow: true }); },
    (told) => fail(new Error(told)));
  placeholder();
  const samples = await ask("/samples").then(({ body }) => body.samples, () => []);
  showSamples(samples, (sample) => pick(sample, true));
  return samples.length ? () => (picture.file === null ? pick(samples[0], false) : null) : () => null;
}

