// The page of a tomogram: leads neuroglancer, which runs in a frame of this page, and lists picks.
import { get, say, element, part, pageValues } from "./api.js";

const given = pageValues();
const frame = document.getElementById("client");
const rowsAtOnce = 300;
let client = null;
let voxel = 1;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Neuroglancer in the frame, once it has started. */
async function started() {
  for (let i = 0; i < 600; i += 1) {
    const found = frame.contentWindow?.viewer;
    if (found?.state) return found;
    await pause(50);
  }
  throw new Error("Neuroglancer did not start. It needs WebGL 2.");
}

const layers = () => [...client.layerManager.managedLayers];
const isOver = (layer) => layer.layer?.type !== "image" || layer.name.startsWith("Mapped back");

const inputs = new Map();

/** A control for each layer; neuroglancer's own controls and ours stay in step. */
function showLayers() {
  const volumes = document.getElementById("volumes");
  const others = document.getElementById("layers");
  for (const layer of layers()) {
    if (inputs.has(layer.name)) {
      inputs.get(layer.name).checked = layer.visible;
      continue;
    }
    const over = isOver(layer);
    const input = element("input", { type: over ? "checkbox" : "radio", name: over ? null : "volume", ".checked": layer.visible });
    input.addEventListener("change", () => {
      for (const other of layers()) {
        if (other.name === layer.name) other.setVisible(input.checked);
        else if (!over && !isOver(other)) other.setVisible(false);
      }
    });
    inputs.set(layer.name, input);
    (over ? others : volumes).append(element("label", {}, input, ` ${layer.name}`));
  }
  others.hidden = others.querySelector("label") === null;
}

/** Gives neuroglancer its state, again where a layer was lost on the way. */
async function restore(state) {
  for (let i = 0; i < 3; i += 1) {
    client.state.restoreState(state);
    await pause(0);
    if (layers().length >= state.layers.length) return;
    client.state.reset();
  }
  throw new Error("Neuroglancer did not take all layers. Load the page again.");
}

/** Moves to a place in A from the specimen centre. */
function go(place) {
  client.position.value = Float32Array.from(place, (p) => p / voxel);
}

function showPlace() {
  const place = [...client.position.value].map((p) => (p * voxel).toFixed(0));
  document.getElementById("place").textContent = `x ${place[0]}, y ${place[1]}, z ${place[2]} Å`;
}

async function openClient() {
  const query = new URLSearchParams();
  if (given.picks) query.set("picks", given.picks);
  if (given.particle) query.set("particle", given.particle);
  const [state, found] = await Promise.all([get(`/api/tomograms/${part(given.series)}/scene?${query}`), started()]);
  client = found;
  voxel = state.dimensions.x[0] * 1e10;
  await restore(state);
  showLayers();
  client.layerManager.layersChanged.add(showLayers);
  client.position.changed.add(showPlace);
  showPlace();
  document.getElementById("centre").addEventListener("click", () => go([0, 0, 0]));
  document.getElementById("full").addEventListener("click", () => frame.requestFullscreen());
  document.getElementById("by-score")?.addEventListener("change", (event) => setControl("by_score", event.target.checked));
  document.documentElement.dataset.state = "loading";
  while (!client.isReady()) await pause(20);
  document.documentElement.dataset.state = "shown";
}

/** Sets a control of the shaders of all layers whose names begin so. */
function setControl(name, value, start = "") {
  for (const layer of layers()) {
    const control = layer.layer?.annotationDisplayState?.shaderControls?.state?.get(name);
    if (control && layer.name.startsWith(start)) control.trackable.value = value;
  }
}

const listTitle = () => document.querySelector("#list option:checked").textContent.replace(/ \(\d+\)$/, "");

/** The slider goes in parts of the range of scores of the list. */
function setUpLeast(scores) {
  const least = document.getElementById("least");
  if (!least) return;
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  least.disabled = !(high > low);
  least.value = 0;
  least.oninput = () => {
    // from the end of the slider itself, so that nothing is left out at its start
    const value = Number(least.value) === 0 ? low - 1e-4 * Math.max(Math.abs(low), Math.abs(high), 1e-6) : low + (least.value / 100) * (high - low);
    const words = Number(least.value) === 0 ? "all" : value.toPrecision(3);
    document.getElementById("least-shown").textContent = words;
    least.setAttribute("aria-valuetext", words);
    if (client) setControl("least_score", value, `${listTitle()}: `);
  };
  least.oninput();
}

async function listPicks(key) {
  const body = document.querySelector("#picks tbody");
  const more = document.getElementById("more");
  const { particles } = await get(`/api/tomograms/${part(given.series)}/picks/${part(key)}`);
  body.replaceChildren();
  setUpLeast(particles.map((one) => one.score).filter((score) => score !== null));
  let shown = 0;
  more.onclick = () => {
    for (const one of particles.slice(shown, shown + rowsAtOnce)) body.append(pickRow(key, one));
    shown += rowsAtOnce;
    more.hidden = shown >= particles.length;
  };
  more.onclick();
  if (client) {
    for (const layer of layers()) if (layer.name.startsWith(`${listTitle()}: `)) layer.setVisible(true);
    showLayers();
  }
}

function pickRow(key, one) {
  const button = element("button", { type: "button", "aria-label": `Show particle ${one.number}` }, "Show");
  button.disabled = !frame;
  button.addEventListener("click", () => {
    go(one.place);
    say(`Particle ${one.number} is in the middle of the view.`);
  });
  const link = element("a", { href: `/particle/${part(given.series)}/${part(key)}/${one.number}` }, `${one.number}`);
  return element(
    "tr", {}, element("th", { scope: "row" }, link), element("td", {}, one.kind), element("td", {}, one.score === null ? "" : one.score.toPrecision(3)),
    element("td", {}, one.place.map((p) => p.toFixed(0)).join(", ")), element("td", {}, button),
  );
}

const list = document.getElementById("list");
if (list) {
  if (given.picks) list.value = given.picks;
  list.addEventListener("change", () => listPicks(list.value).catch((error) => say(error.message)));
  listPicks(list.value).catch((error) => say(error.message));
}
if (frame) openClient().catch((error) => { say(error.message); document.documentElement.dataset.state = "failed"; });
