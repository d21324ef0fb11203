// "Add your own": pictures and a name go into the memory, and the next query knows them. The key stays in its field.

import { askForm, ApiError } from "./api.js";
import { byId, count, el, show, showError } from "./dom.js";

let probed = false;

// The operator's routes are not there (404) until somebody may use them; 401 says that a key will do.
async function probe() {
  if (probed) return;
  probed = true;
  const answer = await fetch("/operator/pairs").catch(() => null);
  const closed = answer === null || answer.status === 404;
  byId("add-closed").hidden = !closed;
  byId("add").hidden = closed;
}

const REASONS = {
  unauthorized: "That is no key of this service, or none was given.",
  scope_missing: "This key may use the service, but not change its memory: it needs the operator scope.",
  not_found: "This service takes no pairs: it was started without an operator key.",
};

function told(body, name) {
  const [added, present] = [body.added.length, body.present.length];
  const pictures = (number) => `${count(number)} picture${number === 1 ? "" : "s"}`;
  const said = added ? `${pictures(added)} of “${name}” added.` : `Nothing to add: ${present === 1 ? "this picture was" : "these pictures were"} there already.`;
  return `${said} The memory is version ${body.memory_version} now, with ${count(body.num_items)} items. Nothing was trained.`;
}

async function add(changed, askAbout) {
  showError(byId("add-error"), null);
  show(byId("add-status"));
  const name = byId("add-name").value.trim();
  const files = [...byId("add-files").files];
  const key = byId("add-key").value.trim();
  if (name === "") return showError(byId("add-error"), new Error("Say first what the pictures show."));
  if (!files.length) return showError(byId("add-error"), new Error("Choose a picture first, or several of the same thing."));
  if (key === "") return showError(byId("add-error"), new Error("Type the operator key: `reco key new NAME --operator` makes one."));
  byId("add-go").disabled = true;
  show(byId("add-status"), el("p", {}, "Adding …"));
  try {
    const { body } = await askForm("/operator/pairs", files, { name }, { headers: { Authorization: `Bearer ${key}` } },
      (pointer) => {
        const [, list, place] = pointer.split("/");
        return { files: "Picture", images: files[Number(place)]?.name ?? "Picture", name: "Name" }[list] ?? null;
      });
    show(byId("add-status"), el("p", {}, told(body, name)),
      el("p", {}, el("button", { type: "button", class: "plain", on: { click: () => askAbout(files[0], name) } }, "Ask about the first one"),
        el("span", { class: "quiet" }, " or, better, choose another picture of it under Try.")));
    await changed();
  } catch (error) {
    show(byId("add-status"));
    showError(byId("add-error"), new ApiError(REASONS[error.code] ?? error.message, error));
  } finally {
    byId("add-go").disabled = false;
  }
}

// `changed()` shows the memory anew; `askAbout(file, name)` opens the first view with a picture and its label.
export function startAdd(changed, askAbout) {
  byId("add-box").addEventListener("toggle", (event) => { if (event.target.open) probe(); });
  byId("add-files").addEventListener("change", (event) => {
    const names = [...event.target.files].map((file) => file.name);
    byId("add-names").textContent = names.length > 3 ? `${count(names.length)} pictures` : names.join(", ");
  });
  byId("add").addEventListener("submit", (event) => {
    event.preventDefault();
    add(changed, askAbout);
  });
}
