// The view "Memory": what it is, a search, a sample.

import { ask, askForm, askJson } from "./api.js";
import { byId, count, el, percent, show, showError } from "./dom.js";
import { gallery } from "./results.js";

const SAMPLE = 24;
let seed = 0;
let thumbnails = false;

export async function loadMemory() {
  const { body } = await ask("/memory");
  const { body: sample } = await ask(`/memory/items?sample=${SAMPLE}&seed=${seed}`);
  thumbnails = sample.items.some((item) => item.thumbnail);
  showFacts(body);
  show(byId("sample"), gallery(sample.items, { thumbnails }));
  return { ...body, thumbnails };
}

const fact = (name, value, more = null) =>
  el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("span", { class: "quiet" }, ` ${more}`) : null));

function showFacts(told) {
  const shards = told.indices.map((index) => `${index.num_shards} ${index.modality}`).join(", ");
  const kinds = [...new Set(told.indices.map((index) => index.kind))].join(", ");
  const segments = told.segments.length;
  // An exact index misses nothing; of any other it is told what was measured.
  const measured = (index) => (index.recall === null || index.recall === undefined ? null
    : typeof index.recall === "number" ? index.recall : index.recall.recall);
  const recalls = told.indices.filter((index) => measured(index) !== null)
    .map((index) => `${percent(measured(index))} of the nearest ten found (${index.modality})`);
  show(byId("memory-facts"),
    fact("Items", count(told.num_items)),
    fact("Version", String(told.memory_version), `in ${segments} segment${segments === 1 ? "" : "s"}`),
    fact("Index", kinds, `shards: ${shards}; ${recalls.length ? recalls.join(", ") : "misses nothing"}`),
    fact("Encoder", told.model, `${told.embed_dim} dimensions`),
    fact("Fusion", told.fusion ? el("code", {}, told.fusion) : "none", told.enhancement ? `${told.default_k} neighbours by default` : "answers are CLIP's own"),
    fact("Digest", el("code", { title: told.digest }, told.digest.slice(0, 16))));
  byId("memory-facts").setAttribute("aria-busy", "false");
}

async function search(wanted, told) {
  showError(byId("search-error"), null);
  byId("search-results").setAttribute("aria-busy", "true");
  byId("search-status").textContent = "Searching …";
  try {
    const { body } = await wanted();
    const found = body.data[0].neighbours ?? [];
    byId("search-status").textContent = `${count(found.length)} nearest items to ${told}.`;
    show(byId("search-results"), gallery(found, { thumbnails }));
  } catch (error) {
    byId("search-status").textContent = "";
    show(byId("search-results"));
    showError(byId("search-error"), error);
  }
  byId("search-results").setAttribute("aria-busy", "false");
}

export function startMemory() {
  const look = { enhance: false, return_neighbours: true };
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("search-text").value.trim();
    if (text === "") return showError(byId("search-error"), new Error("Type a text first, or choose a picture."));
    return search(() => askJson("/embed/text", { texts: text, ...look }), `“${text}”`);
  });
  byId("search-file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) search(() => askForm("/embed/image", file, { enhance: "false", return_neighbours: "true" }), file.name);
    event.target.value = "";
  });
  byId("another").addEventListener("click", async () => {
    seed += 1;
    showError(byId("sample-error"), null);
    try {
      const { body } = await ask(`/memory/items?sample=${SAMPLE}&seed=${seed}`);
      show(byId("sample"), gallery(body.items, { thumbnails }));
    } catch (error) {
      showError(byId("sample-error"), error);
    }
  });
}
