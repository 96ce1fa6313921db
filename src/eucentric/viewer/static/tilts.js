// The page of tilt images: going through them, leaving some out.
import { element, get, pageValues, part, say } from "/static/api.js";
import { UndoButtons, edit, isTyping } from "/static/curate.js";

const values = pageValues();
const byId = (id) => document.getElementById(id);
const PLAY_MS = 120;
const state = { tilts: [], at: 0, scopes: [], timer: null, leftOut: null };
const current = () => state.tilts[state.at];
const address = (tilt) => `/pictures/tilt/${part(values.series)}/${tilt.acquisition}.jpg`;
const WORDS = { used: "used", out: "left out", stage: "left out by the program", back: "taken back, used again by the next run" };
const words = (tilt) => WORDS[tilt.state] + (tilt.reason ? `: ${tilt.reason}` : "");

async function load() {
  try {
    const kept = current()?.acquisition;
    const found = await get(`/api/tilts/${part(values.series)}`);
    Object.assign(state, { tilts: found.tilts, scopes: found.scopes, leftOut: found.left_out });
    const same = state.tilts.findIndex((t) => t.acquisition === kept);
    const upright = state.tilts.reduce((best, t, i, all) => (Math.abs(t.angle) < Math.abs(all[best].angle) ? i : best), 0);
    byId("scrub").max = state.tilts.length - 1;
    byId("frame").textContent = found.aligned
      ? "Turned and shifted by the alignment: the tilt axis is upright, and the specimen should stay in its place."
      : "Not aligned yet: shown as recorded.";
    byId("series-out").hidden = found.left_out === null;
    byId("series-out").textContent = `This series is left out: ${found.left_out}`;
    byId("exclude-series").disabled = found.left_out !== null;
    byId("include-series").disabled = found.left_out === null;
    buttons.show(found);
    list();
    show(same >= 0 ? same : upright);
  } catch (error) {
    say(error.message);
  }
}

function list() {
  byId("rows").replaceChildren(
    ...state.tilts.map((tilt, i) => {
      const button = element("button", { type: "button", "aria-label": `Show the tilt at ${tilt.angle} degrees` }, `${tilt.angle}`);
      button.addEventListener("click", () => show(i));
      const cells = [tilt.dose, ...tilt.figures].map((v) => element("td", {}, v === null ? "" : `${v}`));
      return element("tr", { class: tilt.state === "used" ? "" : "out" },
        element("th", { scope: "row" }, button), ...cells, element("td", {}, words(tilt)));
    }),
  );
}

function show(index) {
  if (!state.tilts.length) return;
  state.at = Math.min(Math.max(index, 0), state.tilts.length - 1);
  const tilt = current();
  byId("scrub").value = state.at;
  byId("scrub").setAttribute("aria-valuetext", `${tilt.angle} degrees, ${words(tilt)}`);
  byId("figure").classList.toggle("out", tilt.state !== "used");
  const picture = byId("picture");
  if (tilt.image) {
    picture.src = address(tilt);
    picture.alt = `Tilt image of ${values.series} at ${tilt.angle} degrees, ${words(tilt)}`;
  } else {
    picture.removeAttribute("src");
    picture.alt = `The tilt at ${tilt.angle} degrees has no image yet`;
  }
  byId("about").textContent = `${tilt.angle}°, ${tilt.dose} e/Å² before it, taken as number ${tilt.acquisition}; ${words(tilt)}`;
  byId("exclude").disabled = tilt.state === "out" || !tilt.can_change;
  byId("include").disabled = tilt.state !== "out";
  for (const [i, row] of [...byId("rows").children].entries()) row.toggleAttribute("data-shown", i === state.at);
  for (const next of [state.at + 1, state.at - 1]) {
    if (state.tilts[next]?.image) new Image().src = address(state.tilts[next]);
  }
}

const reason = () => byId("reason").value.trim();
const withReason = (values) => (reason() ? { ...values, reason: reason() } : values);
const tiltOf = (tilt) => ({ series: values.series, angle: tilt.angle, acquisition: tilt.acquisition });

async function toggle(kind) {
  const tilt = current();
  const about = { kind, ...tiltOf(tilt) };
  await edit(kind === "exclude-tilt" ? withReason(about) : about);
  await load();
}

function play() {
  const runs = state.timer !== null;
  clearInterval(state.timer);
  state.timer = runs ? null : setInterval(() => show((state.at + 1) % state.tilts.length), PLAY_MS);
  byId("play").setAttribute("aria-pressed", `${!runs}`);
  byId("play").textContent = runs ? "Play" : "Stop";
}

const buttons = new UndoButtons(byId("undo"), byId("redo"), () => state.scopes, load);
byId("scrub").addEventListener("input", (event) => show(Number(event.target.value)));
byId("back").addEventListener("click", () => show(state.at - 1));
byId("on").addEventListener("click", () => show(state.at + 1));
byId("play").addEventListener("click", play);
byId("exclude").addEventListener("click", () => toggle("exclude-tilt"));
byId("include").addEventListener("click", () => toggle("include-tilt"));
byId("exclude-series").addEventListener("click", async () => {
  await edit(withReason({ kind: "exclude-series", series: values.series }));
  await load();
});
byId("include-series").addEventListener("click", async () => {
  await edit({ kind: "include-series", series: values.series });
  await load();
});
document.addEventListener("keydown", (event) => {
  if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey || !state.tilts.length) return;
  const onButton = event.target instanceof HTMLButtonElement;
  if (event.key === "ArrowLeft" && event.target !== byId("scrub")) show(state.at - 1);
  else if (event.key === "ArrowRight" && event.target !== byId("scrub")) show(state.at + 1);
  else if (event.key.toLowerCase() === "x") {
    if (current().state === "out") toggle("include-tilt");
    else if (current().can_change) toggle("exclude-tilt");
  } else if (event.key === " " && !onButton) play();
  else return;
  event.preventDefault();
});
load();
