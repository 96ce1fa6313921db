// The page of drawing: faces of the specimen, points, filaments, surfaces and painted labels in the slices of a tomogram.
import { element, get, pageValues, part, say } from "/static/api.js";
import { UndoButtons, edit, isTyping } from "/static/curate.js";
import { Slices, toPlace } from "/static/slices_canvas.js";

const values = pageValues();
const byId = (id) => document.getElementById(id);
const volume = values.volumes.find((v) => v.key === values.volume);
const NEAR_SLICES = 2;
const COLOURS = { top: "#56b4e9", bottom: "#e69f00", point: "#f0e442", filament: "#009e73", surface: "#cc79a7" };
const LINES = ["filament", "surface"];
const BRUSHES = ["brush", "fill", "erase"];
const state = { frame: null, marks: [], slab: null, drawings: [], labels: [], version: null, scopes: [], line: null, stroke: null };
const overlays = new Map();

const tool = () => document.querySelector("input[name=tool]:checked").value;
const labelColour = (number) => values.colours[(number - 1) % values.colours.length];
const number = (id, low, high) => Math.min(Math.max(Number(byId(id).value) || low, low), high);

function addressOf(plane, index) {
  return `/pictures/slice/${part(values.series)}/${part(volume.key)}/${plane}/${index}.png?sum=${byId("sum").value}&version=${volume.version}`;
}

// ---- what lies over the slices

/** The picture of painted labels in a slice; drawn again once it is there. */
function overlay(slice) {
  const address = `/pictures/repair/labels/${part(values.series)}/${slice.plane}/${slice.index}.png?version=${state.version}`;
  let held = overlays.get(address);
  if (!held) {
    held = new Image();
    held.onload = () => slice.paint();
    held.src = address;
    overlays.set(address, held);
    if (overlays.size > 60) overlays.delete(overlays.keys().next().value);
  }
  return held;
}

function paintLabels(context, slice) {
  if (state.version && byId("visible").checked) {
    const picture = overlay(slice);
    slice.canvas.dataset.labels = picture.complete && picture.naturalWidth ? state.version : "";
    if (picture.complete && picture.naturalWidth) {
      context.imageSmoothingEnabled = false;
      context.drawImage(picture, 0, 0, slice.columns * slice.scale, slice.rows * slice.scale);
    }
  }
  const stroke = state.stroke;
  if (!stroke || stroke.slice !== slice) return;
  const points = stroke.points.map((p) => slice.toPixel(p));
  context.strokeStyle = context.fillStyle = stroke.tool === "erase" ? "rgba(0, 0, 0, 0.6)" : labelColour(stroke.label);
  context.globalAlpha = 0.55;
  context.lineWidth = (2 * stroke.radius * slice.scale) / volume.voxel;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
  if (stroke.tool === "fill" && points.length > 2) context.fill();
  context.stroke();
}

function paintDrawings(context, slice) {
  for (const one of state.drawings) {
    for (const line of one.lines) paintLine(context, slice, line, COLOURS[one.shape], one.shape === "point" ? "dots" : one.closed ? "closed" : "open");
  }
  if (state.line) paintLine(context, slice, state.line.points, "#ffffff", "open");
}

/** Parts within some slices in full, the rest of the line faint. */
function paintLine(context, slice, line, colour, kind) {
  const near = (p) => Math.abs(slice.distance(p)) <= NEAR_SLICES * volume.voxel;
  const points = kind === "closed" && line.length > 2 ? [...line, line[0]] : line;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2;
  if (kind !== "dots") {
    for (let i = 1; i < points.length; i++) {
      context.globalAlpha = near(points[i]) && near(points[i - 1]) ? 1 : 0.3;
      context.beginPath();
      context.moveTo(...slice.toPixel(points[i - 1]));
      context.lineTo(...slice.toPixel(points[i]));
      context.stroke();
    }
  }
  context.globalAlpha = 1;
  for (const point of line) {
    if (!near(point)) continue;
    const [x, y] = slice.toPixel(point);
    context.beginPath();
    context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.fill();
  }
}

/** Where the faces of the marked slab cut the slice, and the marks near it. */
function paintSpecimen(context, slice) {
  const [first, last] = [0, slice.columns - 1];
  const half = volume.size.map((n) => Math.floor(n / 2));
  for (const [i, [a, b, c]] of (state.slab?.faces ?? []).entries()) {
    if (slice.plane === "xy") continue;
    const fixed = (slice.index - half[slice.through]) * volume.voxel;
    const along = slice.plane === "xz" ? 0 : 1;
    const ends = (slice.plane === "xz" ? [first, last] : [0, volume.size[1] - 1]).map((v) => {
      const place = [0, 0, 0];
      place[along] = (v - half[along]) * volume.voxel;
      place[slice.through] = fixed;
      place[2] = a * place[0] + b * place[1] + c;
      return slice.toPixel(place);
    });
    context.strokeStyle = i ? COLOURS.bottom : COLOURS.top;
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.beginPath();
    context.moveTo(...ends[0]);
    context.lineTo(...ends[1]);
    context.stroke();
    context.setLineDash([]);
  }
  for (const mark of state.marks) {
    const [x, y] = slice.toPixel(mark.place);
    context.globalAlpha = Math.abs(slice.distance(mark.place)) <= NEAR_SLICES * volume.voxel ? 1 : 0.3;
    context.strokeStyle = COLOURS[mark.face];
    context.lineWidth = 2;
    context.strokeRect(x - 5, y - 5, 10, 10);
  }
}

// ---- lists beside them

function item(text, ...buttons) {
  return element("li", {}, `${text} `, ...buttons.map(([words, label, act]) => {
    const button = element("button", { type: "button", "aria-label": label }, words);
    button.addEventListener("click", act);
    return button;
  }));
}

function list() {
  byId("drawings").firstElementChild.replaceChildren(...state.drawings.map((one) => {
    const count = one.lines.reduce((sum, line) => sum + line.length, 0);
    const [number, noun] = one.shape === "surface" ? [one.lines.length, "contour"] : [count, "point"];
    const title = `${one.shape} ${one.number}${one.label ? ` (${one.label})` : ""}`;
    return item(`${title}: ${number} ${noun}${number === 1 ? "" : "s"}`,
      ["Go", `Go to ${title}`, () => slices.go(one.lines[0][0])],
      ["Delete", `Delete ${title}`, () => change({ kind: "delete-drawing", number: one.number })]);
  }));
  const kept = byId("onto").value;
  const surfaces = state.drawings.filter((one) => one.shape === "surface");
  byId("onto").replaceChildren(element("option", { value: "" }, "a new surface"),
    ...surfaces.map((one) => element("option", { value: `${one.number}` }, `surface ${one.number}${one.label ? ` (${one.label})` : ""}`)));
  byId("onto").value = surfaces.some((one) => `${one.number}` === kept) ? kept : "";
  byId("marks").firstElementChild.replaceChildren(...state.marks.map((mark) => {
    const at = mark.place.map((v) => v.toFixed(0)).join(", ");
    return item(`${mark.face} at ${at} Å`,
      ["Go", `Go to the mark at ${at}`, () => slices.go(mark.place)],
      ["Delete", `Delete the mark at ${at}`, () => change({ kind: "delete-face-point", number: mark.number })]);
  }));
  byId("slab").textContent = state.slab?.words ?? "Mark one point or more on each face; three on one tell the inclination.";
  byId("labels").replaceChildren(...state.labels.map((one) => {
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = labelColour(one.number);
    const button = element("button", { type: "button", "aria-label": `Use label ${one.number}` }, "Use");
    button.addEventListener("click", () => { byId("label").value = one.number; named(); });
    return element("li", {}, swatch, ` ${one.number} ${one.name} `, button);
  }));
  named();
}

function named() {
  const one = state.labels.find((l) => l.number === number("label", 1, 127));
  if (document.activeElement !== byId("label-name")) byId("label-name").value = one?.name ?? "";
}

function lineChanged() {
  byId("finish").disabled = !state.line;
  byId("back").disabled = !state.line;
  slices.paint();
}

// ---- edits

async function load() {
  try {
    const found = await get(`/api/repair/draw/${part(values.series)}`);
    const { frame, marks, slab, drawings, labels, version, scopes } = found;
    Object.assign(state, { frame, marks, slab, drawings, labels, version, scopes, stroke: null });
    document.body.dataset.loaded = `${Number(document.body.dataset.loaded ?? 0) + 1}`;
    buttons.show(found);
    list();
  } catch (error) {
    say(error.message);
  }
  slices.paint();
}

async function change(given) {
  const placed = ["set-face-point", "draw", "paint"].includes(given.kind) ? { frame: state.frame } : {};
  const made = await edit({ series: values.series, ...placed, ...given });
  await load();
  return made;
}

const called = () => byId("name").value.trim();

/** Uses the tool at a place. */
async function use(place, slice) {
  const which = tool();
  if (which === "go") slices.go(place);
  else if (which === "top" || which === "bottom") await change({ kind: "set-face-point", face: which, position: place });
  else if (which === "point") {
    const same = state.drawings.find((one) => one.shape === "point" && one.label === called());
    const lines = [[...(same?.lines[0] ?? []), place]];
    await change({ kind: "draw", shape: "point", label: called(), lines, ...(same ? { number: same.number } : {}) });
  } else if (LINES.includes(which)) {
    if (state.line?.tool !== which) state.line = { tool: which, points: [], through: slice.through };
    if (which === "surface" && state.line.points.length) place[state.line.through] = state.line.points[0][state.line.through];
    state.line.points.push(place);
    lineChanged();
  } else await paintStroke({ tool: which, points: [place], slice, ...brush() });
}

const brush = () => ({ label: number("label", 1, 127), radius: number("radius", 1, 5000) });

async function paintStroke({ tool: which, points, slice, label, radius }) {
  const axis = "xyz"[slice.through];
  state.stroke = { tool: which, points, slice, label, radius };
  slice.paint();
  await change({ kind: "paint", label, axis, points, radius, erase: which === "erase", fill: which === "fill" });
}

async function finish() {
  const line = state.line;
  if (!line) return;
  if (line.points.length < 2) return say("A line needs two points.");
  let given = { kind: "draw", shape: line.tool, label: called(), lines: [line.points] };
  if (line.tool === "surface") {
    const onto = state.drawings.find((one) => `${one.number}` === byId("onto").value);
    given = onto
      ? { ...given, number: onto.number, label: onto.label, closed: onto.closed, lines: [...onto.lines, line.points] }
      : { ...given, closed: byId("closed").checked };
  }
  const made = await change(given);
  if (!made) return;
  if (line.tool === "surface") byId("onto").value = `${made.edits[0].number}`;
  state.line = null;
  lineChanged();
}

function giveUp() {
  state.line = null;
  lineChanged();
}

function back() {
  if (!state.line) return;
  state.line.points.pop();
  if (!state.line.points.length) state.line = null;
  lineChanged();
}

// ---- pointer and keys

/** Within the volume: a stroke may go over its edge. */
function kept(place) {
  return place.map((v, i) => {
    const half = Math.floor(volume.size[i] / 2);
    return Math.min(Math.max(v, -(half + 0.5) * volume.voxel), (volume.size[i] - half - 0.5) * volume.voxel);
  });
}

function listen(slice) {
  slice.painters.unshift(paintLabels, paintDrawings, paintSpecimen);
  const { canvas } = slice;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const place = kept(slice.placeAt(event));
    if (BRUSHES.includes(tool())) {
      state.stroke = { tool: tool(), points: [place], slice, drawing: true, ...brush() };
      slice.paint();
    } else use(place, slice);
  });
  canvas.addEventListener("pointermove", (event) => {
    const stroke = state.stroke;
    if (!stroke?.drawing || stroke.slice !== slice) return;
    const place = kept(slice.placeAt(event));
    const last = stroke.points.at(-1);
    if (Math.hypot(...place.map((v, i) => v - last[i])) < 0.3 * volume.voxel) return;
    stroke.points.push(place);
    slice.paint();
  });
  canvas.addEventListener("pointerup", () => {
    const stroke = state.stroke;
    if (stroke?.drawing && stroke.slice === slice) paintStroke(stroke);
  });
  canvas.addEventListener("pointercancel", () => {
    if (state.stroke?.drawing) state.stroke = null;
    slice.paint();
  });
  canvas.addEventListener("dblclick", () => {
    if (!state.line) return;
    state.line.points.pop(); // both presses of it added the same point
    finish();
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const larger = { "[": 1 / 1.25, "]": 1.25 }[name];
    if (name === "a") use([...slices.place], slice);
    else if (name === "Enter") finish();
    else if (name === "Backspace") back();
    else if (name === "Escape") giveUp();
    else if (larger) byId("radius").value = Math.round(number("radius", 1, 5000) * larger);
    else return;
    event.preventDefault();
  });
}

const slices = new Slices({ xy: byId("slice-xy"), xz: byId("slice-xz"), zy: byId("slice-zy") }, volume, addressOf);
for (const slice of slices.all) listen(slice);
for (const [axis, name] of [...["x", "y", "z"].entries()]) {
  byId(`at-${name}`).max = volume.size[axis] - 1;
  byId(`at-${name}`).addEventListener("input", (event) => {
    const index = [0, 0, 0];
    index[axis] = Number(event.target.value);
    const place = [...slices.place];
    place[axis] = toPlace(index, volume)[axis];
    slices.go(place);
  });
}
slices.onmove = (at, index) => {
  for (const [axis, name] of [...["x", "y", "z"].entries()]) {
    byId(`at-${name}`).value = index[axis];
    byId(`told-${name}`).textContent = `${at[axis].toFixed(0)} Å`;
    byId(`at-${name}`).setAttribute("aria-valuetext", `${at[axis].toFixed(0)} angstrom`);
  }
  for (const slice of slices.all) slice.canvas.setAttribute("aria-label", `${slice.words} of ${values.series}. Keys: see Keys.`);
};
const look = () => slices.look(byId("contrast").value, byId("brightness").value);
const fit = () => slices.resize(Math.max((byId("trio").clientWidth - 30) / (volume.size[0] + volume.size[2]), 0.2));
const buttons = new UndoButtons(byId("undo"), byId("redo"), () => state.scopes, load);
byId("sum").addEventListener("change", () => slices.go(slices.place));
for (const id of ["contrast", "brightness"]) byId(id).addEventListener("input", look);
byId("visible").addEventListener("input", () => slices.paint());
byId("smaller").addEventListener("click", () => slices.resize(slices.scale / 1.25));
byId("larger").addEventListener("click", () => slices.resize(slices.scale * 1.25));
byId("fit").addEventListener("click", fit);
byId("finish").addEventListener("click", finish);
byId("back").addEventListener("click", back);
byId("label").addEventListener("input", named);
byId("name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await edit({ kind: "name-label", label: number("label", 1, 127), name: byId("label-name").value });
  byId("label-name").blur();
  await load();
});
for (const one of document.getElementsByName("tool")) one.addEventListener("change", () => { if (state.line && one.value !== state.line.tool) giveUp(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && state.line && !isTyping(event.target) && !(event.target instanceof HTMLButtonElement) && !event.defaultPrevented) finish();
});
look();
fit();
slices.go([0, 0, 0]);
byId("radius").value = Math.round(5 * volume.voxel);
load();
for (const id of ["label", "radius"]) {
  byId(id).addEventListener("change", ({ target }) => {
    const given = target.value;
    target.value = number(id, Number(target.min), Number(target.max));
    if (Number(given) !== Number(target.value)) say(`${given || "Nothing"} is not between ${target.min} and ${target.max}: ${target.value} is used.`);
  });
}
