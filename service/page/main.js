// Which view is shown, and whether the service is ready for them.

import { startAdd } from "./add.js";
import { useKey } from "./api.js";
import { byId, count } from "./dom.js";
import { openEvaluation } from "./evaluation.js";
import { loadMemory, startMemory } from "./memory.js";
import { askAbout, setMemory, startTry } from "./try.js";

const VIEWS = { try: "Try", memory: "Memory", evaluation: "Evaluation" };

function showView({ focus }) {
  const wanted = location.hash.slice(1);
  if (wanted !== "" && !(wanted in VIEWS)) return;
  const view = wanted === "" ? "try" : wanted;
  for (const name of Object.keys(VIEWS)) {
    byId(name).hidden = name !== view;
    const link = document.querySelector(`nav [data-view=${name}]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[view]} · RECO`;
  if (view === "evaluation") openEvaluation();
  if (focus) {
    byId(`${view}-title`).focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

// Waits for a key that a person types in, where the service asks for one.
function keyTyped() {
  const form = byId("key-form");
  form.hidden = false;
  return new Promise((resolve) => form.addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key").value.trim());
    byId("key").value = "";
    form.hidden = true;
    resolve();
  }, { once: true }));
}

// Asks until the memory answers: a service that is loading says so, and goes on loading.
async function whenReady() {
  const state = byId("service-state");
  for (;;) {
    try {
      const told = await loadMemory();
      state.hidden = true;
      return told;
    } catch (error) {
      state.textContent = error.message;
      state.hidden = false;
      if (error.status === 401) {
        await keyTyped();
        continue;
      }
      await new Promise((resolve) => setTimeout(resolve, error.reason === "starting" ? 1000 : 4000));
    }
  }
}

function told(memory) {
  setMemory(memory);
  byId("lead-items").textContent = `${count(memory.num_items)} captioned pictures`;
}

async function start() {
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  window.addEventListener("hashchange", () => showView({ focus: true }));
  showView({ focus: false });
  startMemory();
  startAdd(async () => { told(await loadMemory()); }, askAbout);
  const [tryFirst, memory] = await Promise.all([startTry(), whenReady()]);
  told(memory);
  await tryFirst();
}

start();
