// Asking the server, and telling the reader. Text goes into pages as text only (textContent), never as HTML.

/** JSON from the server; throws an Error with the server's words where it refuses. */
export async function get(path) {
  return answer(await fetch(path, { headers: { Accept: "application/json" } }));
}

/** Sends an object as JSON (POST, or another method), gives the answer. */
export async function send(path, values, method = "POST") {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  return answer(await fetch(path, { method, headers, body: JSON.stringify(values) }));
}

async function answer(response) {
  const values = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(values.error ?? `The viewer answered ${response.status}.`);
  return values;
}

/** Says something to all readers: in the line at the foot of the page, which screen readers read out. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** The part of a path for a name. */
export const part = encodeURIComponent;

/** An element with attributes (or properties, where the name starts with a dot) and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith(".")) made[key.slice(1)] = value;
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Values that the page was given: <script type="application/json" id="values">. */
export function pageValues(id = "values") {
  return JSON.parse(document.getElementById(id).textContent);
}
