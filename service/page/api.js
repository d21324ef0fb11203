// Requests to the service, and its problems as sentences.

export class ApiError extends Error {
  constructor(message, { code = null, request = null, status = 0, reason = null } = {}) {
    super(message);
    Object.assign(this, { code, request, status, reason });
  }
}

const REASONS = {
  starting: "The service is still loading its model and memory.",
  stopping: "The service is stopping.",
  encoder_mismatch: "The memory was built with another model than the one being served.",
};

// `name(pointer)` says in words what a JSON pointer of the request means on this page.
function sentence(problem, name) {
  if (problem.reason) return REASONS[problem.reason] ?? `${problem.detail} Reason: ${problem.reason}.`;
  const items = (problem.errors ?? []).slice(0, 3).map((item) => {
    const where = name(item.pointer);
    return where ? `${where}: ${item.detail}` : item.detail;
  });
  const limit = problem.limit ? ` The limit is ${problem.limit.toLocaleString("en")}.` : "";
  const more = (problem.errors ?? []).length > 3 ? ` And ${problem.errors.length - 3} more.` : "";
  return (items.length ? [...new Set(items)].join(" ") : problem.detail) + limit + more;
}

function stages(header) {
  return (header ?? "").split(",").map((part) => {
    const [name, ...rest] = part.trim().split(";");
    const duration = rest.find((field) => field.trim().startsWith("dur="));
    return { name, ms: duration ? Number(duration.trim().slice(4)) : NaN };
  }).filter((stage) => stage.name && Number.isFinite(stage.ms));
}

// The key of a service that asks for one: kept for this tab, and sent to nobody else.
const KEY = "reco-key";
const authorization = () => {
  const key = sessionStorage.getItem(KEY);
  return key === null ? {} : { Authorization: `Bearer ${key}` };
};
export const useKey = (key) => sessionStorage.setItem(KEY, key);

export async function ask(path, options = {}, name = () => null) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { Accept: "application/json", ...authorization(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The service cannot be reached. Is it still running?");
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return { body, stages: stages(answer.headers.get("Server-Timing")) };
  if (body === null || !body.detail) throw new ApiError(`The service answered with status ${answer.status}.`);
  throw new ApiError(sentence(body, name), {
    code: body.code, request: body.instance, status: answer.status, reason: body.reason ?? null,
  });
}

export const askJson = (path, body, options = {}, name = undefined) =>
  ask(path, {
    method: "POST", body: JSON.stringify(body), ...options,
    headers: { "Content-Type": "application/json", Accept: "application/json" },
  }, name);

// A picture behind the key, which an <img> by itself would not send.
export async function showPicture(image, path) {
  const headers = authorization();
  if (headers.Authorization === undefined) return image.setAttribute("src", path);
  const answer = await fetch(path, { headers }).catch(() => null);
  if (answer?.ok) image.src = URL.createObjectURL(await answer.blob());
  else image.classList.add("missing");
}

// `files`: one picture or several.
export function askForm(path, files, fields, options = {}, name = undefined) {
  const form = new FormData();
  for (const file of [files].flat()) form.append("files", file, "picture");
  for (const [field, value] of Object.entries(fields)) form.append(field, value);
  return ask(path, { method: "POST", body: form, ...options }, name);
}
