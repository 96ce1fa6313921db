// The page of tracks: points over the tilt images as recorded, moved, added, deleted, split and joined.
import { element, get, pageValues, part, say } from "/static/api.js";
import { UndoButtons, edit, isTyping } from "/static/curate.js";

const values = pageValues();
const byId = (id) => document.getElementById(id);
const NEAR_PIXELS = 10;
const DRAGGED_PIXELS = 3;
const SETTLED_MS = 500;
const FAR_PIXELS = 5;
const state = { tilts: [], points: [], at: 0, chosen: null, drag: null, nudged: null, scopes: [], size: [1, 1], covered: [1, 1], pixel: 1 };

const image = element("img", { alt: "" });
const canvas = element("canvas", { role: "application", tabindex: "0" });
byId("holder").append(image, canvas);

const current = () => state.tilts[state.at];
const chosen = () => state.points.find((p) => p.point === state.chosen) ?? null;
const seen = (point, tilt = current()) => point?.seen[tilt.acquisition] ?? null;
const placeOf = (point) => {
  if (state.drag?.point === point && state.drag.place) return state.drag.place;
  if (state.nudged?.point === point && state.nudged.tilt === current()) return state.nudged.place;
  return seen(point)?.at ?? null;
};

// ---- where things lie: A from the image centre, pixel floor(n / 2), y up; a pixel fills i .. i + 1 of the picture

/** Pixels of the page for each pixel of the image. */
const scale = () => canvas.clientWidth / state.covered[0];

function toPage([x, y]) {
  const column = x / state.pixel + Math.floor(state.size[0] / 2);
  const row = y / state.pixel + Math.floor(state.size[1] / 2);
  return [(column + 0.5) * scale(), (state.covered[1] - row - 0.5) * scale()];
}

function toPlace(event) {
  const frame = canvas.getBoundingClientRect();
  const column = ((event.clientX - frame.left) * state.covered[0]) / frame.width - 0.5;
  const row = state.covered[1] - ((event.clientY - frame.top) * state.covered[1]) / frame.height - 0.5;
  return [(column - Math.floor(state.size[0] / 2)) * state.pixel, (row - Math.floor(state.size[1] / 2)) * state.pixel];
}

function resize() {
  const width = Math.max(byId("holder").clientWidth * Number(byId("size").value), 64);
  const height = (width * state.covered[1]) / state.covered[0];
  const sharp = window.devicePixelRatio || 1;
  for (const one of [image, canvas]) {
    one.style.width = `${width}px`;
    one.style.height = `${height}px`;
  }
  canvas.width = Math.round(width * sharp);
  canvas.height = Math.round(height * sharp);
  byId("holder").style.height = `${Math.min(height, window.innerHeight * 0.8)}px`;
  paint();
}

// ---- what is drawn

/** From blue, at its place, to red, five pixels away. */
function colour(away) {
  if (away === null) return "#dddddd";
  const part = Math.min(away / state.pixel / FAR_PIXELS, 1);
  return part < 0.5 ? mixed([86, 180, 233], [240, 228, 66], 2 * part) : mixed([240, 228, 66], [230, 60, 40], 2 * part - 1);
}

const mixed = (a, b, part) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * part)).join(",")})`;

function paint() {
  if (!state.tilts.length) return;
  const context = canvas.getContext("2d");
  const sharp = window.devicePixelRatio || 1;
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!byId("visible").checked) return;
  const point = chosen();
  if (point) paintWay(context, point);
  for (const one of state.points) {
    const place = placeOf(one);
    if (!place) continue;
    const [x, y] = toPage(place);
    const isChosen = one === point;
    context.beginPath();
    if (seen(one)?.hand) context.rect(x - 6, y - 6, 12, 12);
    else context.arc(x, y, 7, 0, 2 * Math.PI);
    if (isChosen) stroke(context, "#000", 5);
    stroke(context, isChosen ? "#fff" : colour(seen(one)?.away ?? null), isChosen ? 2.5 : 2);
    if (byId("numbers").checked || isChosen) {
      context.font = "12px sans-serif";
      context.lineWidth = 3;
      context.strokeStyle = "#000";
      context.strokeText(`${one.point}`, x + 9, y - 7);
      context.fillStyle = "#fff";
      context.fillText(`${one.point}`, x + 9, y - 7);
    }
  }
}

function stroke(context, style, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.stroke();
}

/** The way of a track over the tilts, and where the alignment expects its point in this image. */
function paintWay(context, point) {
  const way = state.tilts.map((t) => point.seen[t.acquisition]?.at).filter(Boolean).map(toPage);
  context.beginPath();
  way.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  stroke(context, "rgba(255, 255, 255, 0.6)", 1);
  context.fillStyle = "rgba(255, 255, 255, 0.8)";
  for (const [x, y] of way) context.fillRect(x - 1.5, y - 1.5, 3, 3);
  const expected = point.expected[current().acquisition];
  if (!expected) return;
  const [x, y] = toPage(expected);
  context.beginPath();
  for (const [dx, dy] of [[1, 1], [1, -1]]) {
    context.moveTo(x - 6 * dx, y - 6 * dy);
    context.lineTo(x + 6 * dx, y + 6 * dy);
  }
  stroke(context, "#000", 4);
  stroke(context, "#56b4e9", 2);
}

/** How far the chosen point lies from where it is expected, over the tilts. */
function chart(point) {
  const holder = byId("chart");
  holder.hidden = !point;
  if (!point) return;
  const NS = "http://www.w3.org/2000/svg";
  const make = (name, attributes) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const rows = state.tilts.map((t, i) => [i, point.seen[t.acquisition]]).filter(([, row]) => row);
  const top = Math.max(FAR_PIXELS * state.pixel, ...rows.map(([, row]) => row.away ?? 0));
  const svg = make("svg", { viewBox: `0 0 ${state.tilts.length} 10`, preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(make("rect", { x: state.at, y: 0, width: 1, height: 10, fill: "#8884" }));
  for (const [i, row] of rows) {
    const height = Math.max((10 * (row.away ?? 0)) / top, 0.3);
    svg.append(make("rect", { x: i + 0.15, y: 10 - height, width: 0.7, height, fill: colour(row.away) }));
  }
  const worst = rows.reduce((best, one) => ((one[1].away ?? -1) > (best?.[1].away ?? -1) ? one : best), null);
  holder.replaceChildren(svg);
  const words = worst && worst[1].away !== null ? `; at most ${worst[1].away.toFixed(0)} angstrom, at ${state.tilts[worst[0]].angle} degrees` : "";
  holder.setAttribute("aria-label", `Distance of point ${point.point} from where it is expected, in ${rows.length} of ${state.tilts.length} images${words}`);
}

function show(index) {
  if (!state.tilts.length) return;
  state.at = Math.min(Math.max(index, 0), state.tilts.length - 1);
  const tilt = current();
  byId("scrub").value = state.at;
  byId("scrub").setAttribute("aria-valuetext", `${tilt.angle} degrees`);
  byId("about").textContent = `${tilt.angle}°, taken as number ${tilt.acquisition}${tilt.used ? "" : "; left out of the alignment"}`;
  canvas.setAttribute("aria-label", `Points over the tilt image of ${values.series} at ${tilt.angle} degrees. Keys: see Keys.`);
  canvas.dataset.shown = "";
  if (tilt.image) {
    image.onload = () => { canvas.dataset.shown = `${tilt.acquisition}`; };
    image.src = `/pictures/repair/tilt/${part(values.series)}/${tilt.acquisition}.jpg`;
    image.alt = `Tilt image of ${values.series} at ${tilt.angle} degrees as recorded`;
  } else {
    image.removeAttribute("src");
    image.alt = "";
  }
  list();
  choose(chosen());
}

function list() {
  const here = state.points.filter((p) => seen(p)).sort((a, b) => (seen(b).away ?? -1) - (seen(a).away ?? -1));
  byId("rows").replaceChildren(
    ...here.map((point) => {
      const row = seen(point);
      const button = element("button", { type: "button", "aria-label": `Choose point ${point.point}` }, `${point.point}`);
      button.addEventListener("click", () => choose(point));
      const pixels = row.at.map((v, i) => (v / state.pixel + Math.floor(state.size[i] / 2)).toFixed(1));
      const cells = [...pixels, row.away === null ? "" : row.away.toFixed(1), row.hand ? "yes" : "", Object.keys(point.seen).length];
      return element("tr", {}, element("th", { scope: "row" }, button), ...cells.map((v) => element("td", {}, `${v}`)));
    }),
  );
}

function choose(point) {
  state.chosen = point?.point ?? null;
  const row = point && seen(point);
  const count = point ? Object.keys(point.seen).length : 0;
  const away = row && row.away !== null ? `, ${row.away.toFixed(1)} Å from where it is expected` : "";
  byId("chosen").textContent = point
    ? `Point ${point.point}, in ${count} images; ${row ? `here${away}${row.hand ? ", set by hand" : ""}` : "not in this one"}.`
    : "None.";
  for (const id of ["delete-track", "split", "join-button"]) byId(id).disabled = !point;
  byId("delete").disabled = !row;
  byId("put").disabled = !point?.expected[current()?.acquisition];
  chart(point);
  paint();
}

// ---- edits

async function load() {
  try {
    const kept = current()?.acquisition;
    const found = await get(`/api/repair/tracks/${part(values.series)}`);
    const { tilts, points, scopes, size, covered, pixel } = found;
    Object.assign(state, { tilts, points, scopes, size, covered, pixel, nudged: null });
    const same = tilts.findIndex((t) => t.acquisition === kept);
    const upright = tilts.reduce((best, t, i) => (Math.abs(t.angle) < Math.abs(tilts[best].angle) ? i : best), 0);
    byId("scrub").max = tilts.length - 1;
    const hand = points.reduce((sum, p) => sum + Object.values(p.seen).filter((r) => r.hand).length, 0);
    byId("counts").textContent = points.length
      ? `${points.length} points; ${hand} places set by hand.`
      : "This series was aligned without tracks. Mark the same bead in many images to align by it.";
    buttons.show(found);
    resize();
    show(same >= 0 ? same : upright);
  } catch (error) {
    say(error.message);
  }
}

const about = (point) => ({ series: values.series, acquisition: current().acquisition, point: point.point });

async function put(point, place) {
  const made = await edit({ kind: "set-track-point", series: values.series, acquisition: current().acquisition, position: place, ...(point ? { point: point.point } : {}) });
  if (made) state.chosen = made.edits[0].point;
  await load();
}

async function change(values) {
  await edit(values);
  await load();
}

function nudge(dx, dy) {
  const point = chosen();
  const place = point && placeOf(point);
  if (!place) return;
  const moved = [place[0] + dx * state.pixel, place[1] + dy * state.pixel];
  clearTimeout(state.nudged?.timer);
  state.nudged = { point, tilt: current(), place: moved, timer: setTimeout(() => put(point, moved), SETTLED_MS) };
  paint();
}

function expectedHere() {
  const point = chosen();
  const place = point?.expected[current().acquisition];
  if (place) put(point, place);
  else say("The alignment does not tell where that point is expected.");
}

function removeHere() {
  const point = chosen();
  if (point && seen(point)) change({ kind: "delete-track-point", ...about(point) });
}

function removeTrack() {
  const point = chosen();
  if (point) change({ kind: "delete-track", series: values.series, point: point.point });
}

function splitHere() {
  const point = chosen();
  if (point) change({ kind: "split-track", ...about(point) });
}

function step(by) {
  const here = state.points.filter((p) => seen(p));
  if (!here.length) return say("No point is tracked in this image.");
  const at = here.indexOf(chosen());
  choose(here[(at + by + (at < 0 && by < 0 ? 1 : 0) + here.length) % here.length]);
  say(byId("chosen").textContent);
}

/** To the image and point that lie furthest from where they are expected. */
function worst() {
  let found = null;
  for (const point of state.points) {
    for (const [i, tilt] of state.tilts.entries()) {
      const away = point.seen[tilt.acquisition]?.away ?? -1;
      if (away > (found?.away ?? -1)) found = { point, i, away };
    }
  }
  if (!found) return say("No point has a place to be expected at.");
  state.chosen = found.point.point;
  show(found.i);
}

// ---- pointer and keys

function pointAt(event) {
  const frame = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
  let found = null;
  let nearest = NEAR_PIXELS;
  for (const point of state.points) {
    const place = placeOf(point);
    if (!place) continue;
    const [px, py] = toPage(place);
    const distance = Math.hypot(px - x, py - y);
    if (distance < nearest) [found, nearest] = [point, distance];
  }
  return found;
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !state.tilts.length) return;
  const press = document.querySelector("input[name=press]:checked").value;
  if (press === "new") return void put(null, toPlace(event));
  if (press === "put") return void (chosen() ? put(chosen(), toPlace(event)) : say("Choose a point first."));
  const point = pointAt(event);
  choose(point);
  if (!point) return;
  canvas.setPointerCapture(event.pointerId);
  state.drag = { point, from: toPlace(event), start: [event.clientX, event.clientY], origin: placeOf(point), place: null };
});
canvas.addEventListener("pointermove", (event) => {
  const drag = state.drag;
  if (!drag) return;
  if (!drag.place && Math.hypot(event.clientX - drag.start[0], event.clientY - drag.start[1]) < DRAGGED_PIXELS) return;
  const to = toPlace(event);
  drag.place = drag.origin.map((v, i) => v + to[i] - drag.from[i]);
  paint();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    const drag = state.drag;
    state.drag = null;
    if (drag?.place && event.type === "pointerup") {
      state.nudged = { point: drag.point, tilt: current(), place: drag.place };
      put(drag.point, drag.place);
    } else paint();
  });
}
canvas.addEventListener("wheel", (event) => {
  if (event.ctrlKey) return;
  event.preventDefault();
  show(state.at + (event.deltaY < 0 ? 1 : -1));
}, { passive: false });

const buttons = new UndoButtons(byId("undo"), byId("redo"), () => state.scopes, load);
byId("scrub").addEventListener("input", (event) => show(Number(event.target.value)));
byId("back").addEventListener("click", () => show(state.at - 1));
byId("on").addEventListener("click", () => show(state.at + 1));
byId("previous-point").addEventListener("click", () => step(-1));
byId("next-point").addEventListener("click", () => step(1));
byId("worst").addEventListener("click", worst);
byId("put").addEventListener("click", expectedHere);
byId("delete").addEventListener("click", removeHere);
byId("delete-track").addEventListener("click", removeTrack);
byId("split").addEventListener("click", splitHere);
byId("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const point = chosen();
  if (point) change({ kind: "join-tracks", series: values.series, point: point.point, other: Number(byId("other").value) });
});
for (const id of ["visible", "numbers"]) byId(id).addEventListener("input", paint);
byId("size").addEventListener("input", resize);
byId("contrast").addEventListener("input", (event) => { image.style.filter = `contrast(${event.target.value})`; });
window.addEventListener("resize", resize);
document.addEventListener("keydown", (event) => {
  if (isTyping(event.target) || event.ctrlKey || event.metaKey || !state.tilts.length) return;
  const onButton = event.target instanceof HTMLButtonElement;
  const onRange = event.target instanceof HTMLInputElement;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.altKey) {
    if (!(event.key in moves)) return;
    nudge(...moves[event.key]);
  } else if (event.key === "ArrowLeft" && !onRange) show(state.at - 1);
  else if (event.key === "ArrowRight" && !onRange) show(state.at + 1);
  else if (name === "n") step(1);
  else if (name === "p") step(-1);
  else if (name === "a") expectedHere();
  else if (name === "s") splitHere();
  else if (name === "Escape") choose(null);
  else if ((name === "Delete" || name === "Backspace") && !onButton) event.shiftKey ? removeTrack() : removeHere();
  else return;
  event.preventDefault();
});
load();
