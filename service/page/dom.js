// Elements from plain data. Text becomes text nodes and nothing else, so no caption or label can become markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listen] of Object.entries(value)) node.addEventListener(event, listen);
    else if (name === "style") for (const [rule, set] of Object.entries(value)) node.style.setProperty(rule, set);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export function show(place, ...children) {
  place.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

export const lines = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");

const NUMBER = new Intl.NumberFormat("en");
export const count = (number) => NUMBER.format(number);

// With one decimal, as Python prints it: halfway it goes to the even one, so 6.25 is 6.2.
export const tenths = (value) => (Math.abs(value) % 1 === 0.25 ? value - Math.sign(value) * 0.05 : value).toFixed(1);

export function percent(share) {
  const value = 100 * share;
  if (value < 0.05) return "0 %";
  if (value < 9.95) return `${tenths(value)} %`;
  return value > 99.5 && value < 100 ? "> 99 %" : `${Math.round(value)} %`;
}

// An error as a sentence, with its code for whoever wants to look it up.
export function showError(place, error) {
  place.hidden = error === null;
  if (error === null) return show(place);
  show(place, el("p", {}, error.message),
    error.code ? el("p", { class: "quiet" }, el("a", { href: `/docs#${error.code}` }, error.code),
      error.request ? ` · request ${error.request}` : null) : null);
}

// Copies text; without the clipboard API (plain http on another host) through a selection.
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export const afterMotion = () =>
  window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
