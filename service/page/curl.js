// The same request for a terminal.

import { copy, el } from "./dom.js";

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
const fileName = (name) => name.replace(/[^\w.-]+/g, "-").replace(/^[-.]+/, "") || "picture";

// `picture`: {name, sample}; a sample is fetched first, so that the lines work as they are.
export function pictureCurl(path, picture, fields) {
  const file = fileName(picture.name);
  const fetched = picture.sample ? [`curl -s ${quoted(`${location.origin}/samples/${encodeURIComponent(picture.sample)}`)} -o ${file}`] : [];
  // --form-string: a label may begin with @ or hold a semicolon, which -F would read as its own.
  const given = Object.entries(fields).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`);
  return [...fetched, [`curl -s ${quoted(location.origin + path)} -F files=@${file}`, ...given].join(" \\\n  ")].join("\n");
}

export const jsonCurl = (path, body) =>
  `curl -s ${quoted(location.origin + path)} -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;

export function curlBlock(command) {
  const status = el("span", { role: "status", class: "quiet" });
  const press = async () => {
    await copy(command).then(() => { status.textContent = "Copied."; }, () => { status.textContent = "Could not copy."; });
    setTimeout(() => { status.textContent = ""; }, 2000);
  };
  return el("details", { class: "curl" },
    el("summary", {}, "The same with curl"),
    el("pre", { tabindex: "0", role: "region", "aria-label": "curl command" }, el("code", {}, command)),
    el("p", {}, el("button", { type: "button", class: "plain", on: { click: press } }, "Copy"), " ", status));
}
