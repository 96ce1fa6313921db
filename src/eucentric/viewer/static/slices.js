// The page of slices: looking through a tomogram, editing its picks, rating it.
import { get, pageValues, part, say } from "/static/api.js";
import { UndoButtons, edit, isTyping } from "/static/curate.js";
import { Slices, toPlace } from "/static/slices_canvas.js";

const values = pageValues();
const byId = (id) => document.getElementById(id);
const COLOURS = { picked: "#ffd400", moved: "#56b4e9", added: "#e69f00" };
const NEAR_PIXELS = 9;
const DRAGGED_PIXELS = 3;
const SETTLED_MS = 500;

const state = { picks: [], scopes: [], list: values.list, chosen: null, drag: null, nudged: null };
let volume = values.volumes.find((v) => v.key === values.volume);
let slices = null;

function addressOf(plane, index) {
  const sum = byId("sum").value;
  return `/pictures/slice/${part(values.series)}/${part(volume.key)}/${plane}/${index}.png?sum=${sum}&version=${volume.version}`;
}

// ---- picks

const radius = () => Math.max(Number(byId("diameter").value) || 0, 2 * volume.voxel) / 2;
const chosenPick = () => state.picks.find((p) => p.name === state.chosen) ?? null;
const placeOf = (pick) => (state.drag?.pick === pick && state.drag.place) || (state.nudged?.pick === pick && state.nudged.place) || pick.place;

/** A sphere cut by the slice: its circle is smaller and fainter the further away its middle is. */
function paintPicks(context, slice) {
  if (!byId("visible").checked) return;
  const whole = radius();
  for (const pick of state.picks) {
    const place = placeOf(pick);
    const away = Math.abs(slice.distance(place));
    if (away >= whole) continue;
    const isChosen = pick.name === state.chosen;
    const [x, y] = slice.toPixel(place);
    const pixels = slice.scale / volume.voxel;
    context.globalAlpha = isChosen ? 1 : 1 - 0.85 * (away / whole);
    context.setLineDash(pick.origin === "added" ? [4, 3] : []);
    context.beginPath();
    context.arc(x, y, Math.sqrt(whole * whole - away * away) * pixels, 0, 2 * Math.PI);
    if (isChosen) stroke(context, "#000", 5);
    stroke(context, isChosen ? "#fff" : COLOURS[pick.origin], isChosen ? 2.5 : 1.5);
    context.setLineDash([]);
    if (pick.direction) {
      const length = whole * pixels;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + pick.direction[slice.across] * length, y - pick.direction[slice.up] * length);
      stroke(context, COLOURS[pick.origin], 1.5);
    }
  }
}

function stroke(context, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

/** The pick under a pointer: the nearest one whose circle is drawn there. */
function pickAt(slice, event) {
  if (!byId("visible").checked) return null;
  const frame = slice.canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
  let found = null;
  let nearest = Infinity;
  for (const pick of state.picks) {
    const away = Math.abs(slice.distance(pick.place));
    if (away >= radius()) continue;
    const [px, py] = slice.toPixel(pick.place);
    const distance = Math.hypot(px - x, py - y);
    const reach = Math.max(NEAR_PIXELS, (0.7 * radius() * slice.scale) / volume.voxel);
    if (distance < reach && distance < nearest) [found, nearest] = [pick, distance];
  }
  return found;
}

function choose(pick, go = false) {
  state.chosen = pick?.name ?? null;
  byId("delete").disabled = pick === null;
  const score = pick?.score === null || !pick ? "" : `, score ${pick.score}`;
  byId("selected").textContent = pick
    ? `${pick.name}: x ${pick.place[0].toFixed(1)}, y ${pick.place[1].toFixed(1)}, z ${pick.place[2].toFixed(1)} Å, ${pick.origin}${score}`
    : "No pick is chosen.";
  if (pick && go) slices.go(pick.place);
  slices.paint();
}

/** Picks as they are saved. */
async function load() {
  try {
    const found = await get(`/api/slices/${part(values.series)}/picks/${part(state.list)}`);
    if (found.list !== state.list) return;
    state.picks = found.picks;
    state.scopes = found.scopes;
    const counts = { picked: 0, moved: 0, added: 0 };
    for (const pick of found.picks) counts[pick.origin] += 1;
    const lost = found.lost ? ` ${found.lost} edits are of picks that the list no longer has.` : "";
    byId("counts").textContent =
      `${found.picks.length} here (${counts.added} added, ${counts.moved} moved), ${found.total} in the list.${lost}`;
    if (byId("diameter").dataset.list !== state.list) {
      byId("diameter").value = Math.round(found.diameter / 10) * 10;
      byId("diameter").dataset.list = state.list;
    }
    for (const one of document.getElementsByName("rating")) one.checked = Number(one.value) === found.rating;
    if (document.activeElement !== byId("note")) byId("note").value = found.note;
    buttons.show(found);
  } catch (error) {
    state.picks = [];
    say(error.message);
  }
  state.nudged = null;
  choose(chosenPick());
}

const about = () => ({ tomogram: values.series, picks: state.list });

async function add(place) {
  const made = await edit({ kind: "add-pick", ...about(), position: place });
  if (made) state.chosen = made.edits[0].pick;
  await load();
}

async function remove(pick) {
  const next = state.picks[state.picks.indexOf(pick) + 1] ?? null;
  if (await edit({ kind: "delete-pick", ...about(), pick: pick.name })) state.chosen = next?.name ?? null;
  await load();
}

async function move(pick, place) {
  await edit({ kind: "move-pick", ...about(), pick: pick.name, position: place });
  await load();
}

/** The chosen pick by a voxel; saved once no key came for a while. */
function nudge(slice, axis, voxels) {
  const pick = chosenPick();
  if (!pick) return;
  const place = [...placeOf(pick)];
  place[axis] += voxels * volume.voxel;
  clearTimeout(state.nudged?.timer);
  state.nudged = { pick, place, timer: setTimeout(() => move(pick, place), SETTLED_MS) };
  slices.paint();
}

function step(by) {
  if (!state.picks.length) return say("There are no picks here.");
  const at = state.picks.findIndex((p) => p.name === state.chosen);
  const next = state.picks[(at + by + (at < 0 && by < 0 ? 1 : 0) + state.picks.length) % state.picks.length];
  choose(next, true);
  say(byId("selected").textContent);
}

// ---- pointer and keys

function listen(slice) {
  slice.painters.push(paintPicks);
  slice.canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const pick = pickAt(slice, event);
    if (pick) {
      slice.canvas.setPointerCapture(event.pointerId);
      state.drag = { pick, x: event.clientX, y: event.clientY, from: slice.placeAt(event), place: null };
      choose(pick);
    } else if (document.querySelector("[name=press]:checked").value === "go") slices.go(slice.placeAt(event));
    else add(slice.placeAt(event));
  });
  slice.canvas.addEventListener("pointermove", (event) => {
    const drag = state.drag;
    if (!drag || (!drag.place && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < DRAGGED_PIXELS)) return;
    const to = slice.placeAt(event);
    drag.place = drag.pick.place.map((v, i) => v + to[i] - drag.from[i]);
    slices.paint();
  });
  const end = (event) => {
    const drag = state.drag;
    state.drag = null;
    if (drag?.place && event.type === "pointerup") {
      state.nudged = { pick: drag.pick, place: drag.place };
      move(drag.pick, drag.place);
    } else slices.paint();
  };
  slice.canvas.addEventListener("pointerup", end);
  slice.canvas.addEventListener("pointercancel", end);
  slice.canvas.addEventListener("keydown", (event) => key(event, slice));
}

function key(event, slice) {
  if (event.ctrlKey || event.metaKey) return;
  const arrows = {
    ArrowLeft: [slice.across, -1], ArrowRight: [slice.across, 1], ArrowDown: [slice.up, -1], ArrowUp: [slice.up, 1],
    PageDown: [slice.through, -1], PageUp: [slice.through, 1],
  };
  const pick = chosenPick();
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.altKey && event.key in arrows) nudge(slice, ...arrows[event.key]);
  else if (event.altKey) return;
  else if (name === "n") step(1);
  else if (name === "p") step(-1);
  else if (name === "a") add(slices.place);
  else if ((name === "Delete" || name === "Backspace") && pick) remove(pick);
  else if (name === "Escape") choose(null);
  else if (/^[0-5]$/.test(name)) rate(Number(name));
  else return;
  event.preventDefault();
}

// ---- rating, controls

async function rate(rating) {
  await edit({ kind: "rate-tomogram", tomogram: values.series, rating, note: byId("note").value });
  await load();
}

function open(place) {
  slices = new Slices({ xy: byId("slice-xy"), xz: byId("slice-xz"), zy: byId("slice-zy") }, volume, addressOf);
  for (const slice of slices.all) listen(slice);
  for (const [axis, name] of [...["x", "y", "z"].entries()]) byId(`at-${name}`).max = volume.size[axis] - 1;
  slices.onmove = (at, index) => {
    for (const [axis, name] of [...["x", "y", "z"].entries()]) {
      byId(`at-${name}`).value = index[axis];
      byId(`told-${name}`).textContent = `${at[axis].toFixed(0)} Å`;
      byId(`at-${name}`).setAttribute("aria-valuetext", `${at[axis].toFixed(0)} angstrom`);
    }
    for (const slice of slices.all) slice.canvas.setAttribute("aria-label", `${slice.words} of ${values.series}. Keys: see Keys.`);
  };
  look();
  fit();
  slices.go(place);
}

const look = () => slices.look(byId("contrast").value, byId("brightness").value);

function fit() {
  const [x, , z] = volume.size;
  slices.resize(Math.max((byId("trio").clientWidth - 30) / (x + z), 0.2));
}

const buttons = new UndoButtons(byId("undo"), byId("redo"), () => state.scopes, load);
for (const [axis, name] of [...["x", "y", "z"].entries()]) {
  byId(`at-${name}`).addEventListener("input", (event) => {
    const place = [...slices.place];
    const index = [0, 0, 0];
    index[axis] = Number(event.target.value);
    place[axis] = toPlace(index, volume)[axis];
    slices.go(place);
  });
}
byId("volume").value = volume.key;
byId("volume").addEventListener("change", (event) => {
  volume = values.volumes.find((v) => v.key === event.target.value);
  open(slices.place);
});
byId("sum").addEventListener("change", () => slices.go(slices.place));
for (const id of ["contrast", "brightness"]) byId(id).addEventListener("input", look);
for (const id of ["diameter", "visible"]) byId(id).addEventListener("input", () => slices.paint());
byId("smaller").addEventListener("click", () => slices.resize(slices.scale / 1.25));
byId("larger").addEventListener("click", () => slices.resize(slices.scale * 1.25));
byId("fit").addEventListener("click", fit);
byId("previous-pick").addEventListener("click", () => step(-1));
byId("next-pick").addEventListener("click", () => step(1));
byId("delete").addEventListener("click", () => chosenPick() && remove(chosenPick()));
byId("list").addEventListener("change", (event) => { state.list = event.target.value; state.chosen = null; load(); });
byId("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("new-list").value;
  if (![...byId("list").options].some((o) => o.value === name)) byId("list").add(new Option(name));
  byId("list").value = name;
  state.list = name;
  say(`The list ${name} is begun with its first pick.`);
  load();
});
for (const one of document.getElementsByName("rating")) one.addEventListener("change", () => rate(Number(one.value)));
byId("note-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = document.querySelector("[name=rating]:checked");
  if (chosen) rate(Number(chosen.value));
  else say("Choose a rating first.");
});
document.addEventListener("keydown", (event) => {
  if (isTyping(event.target) || event.target instanceof HTMLCanvasElement || event.ctrlKey || event.altKey) return;
  if (event.key === "," || event.key === ".") slices.step(2, event.key === "." ? 1 : -1);
});
byId("list").value = state.list;
const asked = (new URLSearchParams(location.search).get("at") ?? "").split(",").map(Number);
open(asked.length === 3 && asked.every(Number.isFinite) ? asked : [0, 0, 0]);
load();
