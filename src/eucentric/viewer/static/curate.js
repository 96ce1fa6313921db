// Edits of the project from any page: sent one after another, undone and redone, and told to the reader.
import { get, send, say } from "/static/api.js";

let queue = Promise.resolve();

/** Runs work after all edits before it; a refusal is told and gives null. */
function inTurn(work) {
  const done = queue.then(work).catch((error) => { say(error.message); return null; });
  queue = done;
  return done;
}

const nextRun = (made) => (made.for_next_run ? " The next `eucentric run` uses it." : "");

/** Sends an edit; gives the server's answer, or null where it was refused (which is told). */
export function edit(values) {
  return inTurn(async () => {
    const made = await send("/api/curation/edit", values);
    say(`Saved: ${made.words}.${nextRun(made)}`);
    return made;
  });
}

/** Takes back ("undo") or brings again ("redo") the latest edit of some scopes. */
export function reverse(action, scopes) {
  return inTurn(async () => {
    const made = await send(`/api/curation/${action}`, { scopes });
    say(`${action === "undo" ? "Undone" : "Done again"}: ${made.words}.${nextRun(made)}`);
    return made;
  });
}

/** What undo and redo would do: {undo, redo}, words or null. */
export function nextSteps(scopes) {
  return get(`/api/curation/next?${scopes.map((s) => `scope=${encodeURIComponent(s)}`).join("&")}`);
}

/** Two buttons kept in step, and the keys Ctrl-Z, Ctrl-Y and Ctrl-Shift-Z. */
export class UndoButtons {
  /** @param changed () => called after an edit was taken back or brought again */
  constructor(undo, redo, scopes, changed) {
    Object.assign(this, { undo, redo, scopes, changed });
    undo.addEventListener("click", () => this.#reverse("undo"));
    redo.addEventListener("click", () => this.#reverse("redo"));
    document.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || isTyping(event.target)) return;
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      this.#reverse(key === "y" || event.shiftKey ? "redo" : "undo");
    });
  }

  show({ undo, redo }) {
    for (const [button, words] of [[this.undo, undo], [this.redo, redo]]) {
      button.disabled = words === null;
      button.title = words ?? "";
    }
  }

  async #reverse(action) {
    if (await reverse(action, this.scopes())) await this.changed();
  }
}

/** Whether keys belong to a field. */
export const isTyping = (target) =>
  target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement ||
  (target instanceof HTMLInputElement && !["range", "radio", "checkbox", "button"].includes(target.type));
