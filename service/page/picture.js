// The picture that is being asked about: chosen, dropped, pasted, or one of the service's samples.

import { byId, el, show } from "./dom.js";

export const picture = { file: null, name: "picture", sample: null, answer: null };
let address = null;

export function setPicture(file, { name, sample = null, answer = null } = {}) {
  Object.assign(picture, { file, name: name ?? file.name ?? "picture", sample, answer });
  if (address !== null) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  const preview = byId("preview");
  preview.src = address;
  preview.hidden = false;
  byId("file-name").textContent = picture.name;
  for (const button of byId("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === sample));
  }
}

const firstImage = (files) => [...(files ?? [])].find((file) => file.type.startsWith("image/"));

// `chosen()` runs after a person gave a picture; `refuse(sentence)` when what they gave is none.
export function listenForPictures(chosen, refuse) {
  const drop = byId("drop");
  const take = (files) => {
    const file = firstImage(files);
    if (!file) return refuse("That is no picture. Give a JPEG, PNG, WebP, GIF or AVIF file.");
    setPicture(file);
    chosen();
  };
  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files);
    event.target.value = ""; // the same file may be chosen twice
  });
  document.addEventListener("paste", (event) => {
    if (byId("try").hidden || !firstImage(event.clipboardData?.files)) return;
    event.preventDefault();
    take(event.clipboardData.files);
  });
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); // else the browser would leave the page
    });
  }
  document.addEventListener("dragover", () => drop.classList.toggle("over", !byId("try").hidden));
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!byId("try").hidden && event.dataTransfer?.files.length) take(event.dataTransfer.files);
  });
}

export function showSamples(samples, pick) {
  const place = byId("samples");
  place.hidden = samples.length === 0;
  show(place, samples.map((sample) => el("button", {
    type: "button", title: sample.note ? `${sample.title}. ${sample.note}` : sample.title,
    "data-name": sample.name, "aria-pressed": "false", on: { click: () => pick(sample) },
  }, el("img", { src: sampleAddress(sample), alt: sample.title, width: 48, height: 48, loading: "lazy" }))));
}

export const sampleAddress = (sample) => `/samples/${encodeURIComponent(sample.name)}`;
