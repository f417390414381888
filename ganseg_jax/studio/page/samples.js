// Samples with their points: pulled at, grown and turned; look and background of other samples.
import { draw } from "./api.js";
import { address, write, writeNow } from "./address.js";
import { handles } from "./handles.js";
import { labelAt, paint, showTip } from "./picture.js";
import * as named from "./parts.js";

const element = (id) => document.getElementById(id);
const board = element("board"), canvas = element("sample"), gallery = element("gallery");
const range = document.querySelector('[data-view="samples"] .mix-range');
const REST = 250; // ms without a change after which a draft is drawn exactly

export const sample = { frame: null, points: null, state: null, drawn: 0, look: named.look };
let wanted = null, busy = false, restTimer, shownTiles = 12, history = [], grip;

export function setUp(say) {
  sample.say = say;
  grip = handles(element("handles"), {
    begin: remember,
    move: (points) => { sample.points = points; changed("drag"); },
    end: () => { writeNow(); rest(); },
    choose: (part) => { address.part = part; named.choose(part); write(); },
    color: (part) => `rgb(${sample.look.color(part) ?? [128, 128, 128]})`,
    name: named.nameOf,
  });
  range.addEventListener("input", () => { address.mix = Number(range.value); repaint(); write(); });
  element("grow").addEventListener("click", () => change((g) => g.grow(1.1)));
  element("shrink").addEventListener("click", () => change((g) => g.grow(1 / 1.1)));
  element("turn-left").addEventListener("click", () => change((g) => g.turn(-10)));
  element("turn-right").addEventListener("click", () => change((g) => g.turn(10)));
  element("undo").addEventListener("click", undo);
  element("reset").addEventListener("click", () => { remember(); address.points = null; sample.points = null; changed("exact"); });
  element("share").addEventListener("click", share);
  element("other").addEventListener("click", () => take({ seed: address.seed + 1, pose: 0, look: 0, background: 0 }, true));
  element("more").addEventListener("click", () => { shownTiles += 12; tiles(); });
  canvas.addEventListener("pointermove", (event) => sample.frame && showTip(board, event, tipOf(labelAt(canvas, sample.frame, event))));
  canvas.addEventListener("pointerleave", (event) => showTip(board, event, ""));
  board.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undo(); }
  });
}

const tipOf = (label) => (named.hidden(label) ? "" : named.nameOf(label));

export function open(state) {
  sample.state = state;
  pictures.clear(); // The networks may be newer ones.
  sample.look = state.own_parts ? named.look : named.plainLook(state.colors);
  range.value = address.mix;
  const problem = state.problems.generator ?? "";
  element("samples-empty").hidden = !problem;
  element("samples-empty").textContent = problem && `There are no samples: ${problem}`;
  element("samples-body").hidden = !!problem;
  board.classList.toggle("still", !state.movable);
  element("points-hint").hidden = !state.movable;
  if (problem || !state.size) return;
  adoptAddress();
  tiles();
}

// After another address was opened.
export function adoptAddress() {
  const { parts, points } = sample.state, count = sample.state.generator_parts ?? parts.length;
  const flat = address.points?.flat ? address.points.flat(2) : null;
  address.points = flat && flat.length === count * points * 2 ? grouped(flat, count, points) : null;
  sample.points = address.points;
  range.value = address.mix;
  named.choose(address.part);
  changed("exact");
  marks();
}

const grouped = (flat, parts, points) =>
  Array.from({ length: parts }, (_, k) => Array.from({ length: points }, (_, p) => flat.slice(2 * (k * points + p), 2 * (k * points + p) + 2)));

function remember() {
  history.push(sample.points && structuredClone(sample.points));
  history = history.slice(-100);
}

function undo() {
  if (!history.length) return;
  sample.points = history.pop();
  if (!sample.points) address.points = null;
  changed("exact");
}

function change(how) {
  if (!sample.points) return;
  remember();
  how(grip);
  rest();
}

function take(values, anew = false) {
  Object.assign(address, values);
  if ("pose" in values) { remember(); address.points = null; sample.points = null; }
  if (anew) { history = []; shownTiles = 12; tiles(); }
  changed("exact");
  marks();
  writeNow();
}

// ---- drawing: one request at a time, the newest wish wins

function changed(kind) {
  if (sample.points) address.points = sample.points;
  if (sample.points) grip.show(sample.points, address.part, sample.state);
  wanted = { kind, at: performance.now() };
  write();
  next();
}

async function next() {
  if (busy || !wanted) return;
  const { kind, at } = wanted, { seed, pose, look, background } = address;
  const points = sample.points;
  wanted = null;
  busy = true;
  try {
    const frame = await draw({ seed, pose, look, background, points }, kind);
    if (frame) {
      sample.frame = frame;
      if (!points && !sample.points && !wanted) sample.points = frame.points;
      if (sample.points) grip.show(sample.points, address.part, sample.state);
      repaint();
      sample.drawn += 1;
      sample.latency = performance.now() - at;
      sample.say("");
    }
  } catch (error) {
    if (error.constructor.name !== "Gone") sample.say(error.message, true);
  }
  busy = false;
  if (wanted) next();
  else rest();
}

// A draft is replaced by the exact picture once nothing moves.
function rest() {
  clearTimeout(restTimer);
  if (sample.frame?.exact !== false) return;
  restTimer = setTimeout(() => grip.held() || changed("exact"), REST);
}

export function repaint() {
  if (!sample.frame) return;
  paint(canvas, sample.frame, sample.look, { mix: address.mix, lit: named.parts.lit });
  if (sample.state.own_parts) {
    const counts = new Array(named.parts.entries.length).fill(0);
    for (const label of sample.frame.labels) if (label) counts[label - 1]++;
    if (address.view === "samples") named.showShares(counts.map((count) => count / sample.frame.labels.length));
  }
  if (sample.points) grip.show(sample.points, address.part, sample.state);
}

sample.idle = () => !busy && !wanted;
export const redraw = () => sample.state?.size && changed("exact");

async function share() {
  writeNow();
  try {
    await navigator.clipboard.writeText(location.href);
    element("share").textContent = "Copied";
  } catch {
    sample.say("The address bar holds the address of exactly this.");
  }
  setTimeout(() => (element("share").textContent = "Copy address"), 1500);
}

// ---- the gallery

const pictures = new Map();

function tiles() {
  const seed = address.seed;
  gallery.replaceChildren(...Array.from({ length: shownTiles }, (_, number) => {
    const tile = document.createElement("button");
    tile.className = "tile busy";
    tile.setAttribute("aria-label", `Sample ${number}`);
    tile.append(document.createElement("canvas"));
    tile.addEventListener("click", () => {
      const what = document.querySelector('input[name="take"]:checked').value;
      take(what === "all" ? { pose: number, look: number, background: number } : { [what]: number });
    });
    return tile;
  }));
  marks();
  fill(seed);
}

async function fill(seed) {
  for (const [number, tile] of [...gallery.children].entries()) {
    if (seed !== address.seed || !tile.isConnected) return;
    const key = `${seed}/${number}`;
    try {
      if (!pictures.has(key)) pictures.set(key, await draw({ seed, pose: number, look: number, background: number }, "tile"));
      paint(tile.firstChild, pictures.get(key), sample.look);
    } catch (error) {
      tile.classList.add("failed");
      if (error.constructor.name === "Gone") return;
    } finally {
      tile.classList.remove("busy");
    }
  }
}

function marks() {
  [...gallery.children].forEach((tile, number) => {
    const gives = ["pose", "look", "background"].filter((what) => address[what] === number);
    tile.classList.toggle("chosen", gives.length > 0);
    tile.querySelector(".badge")?.remove();
    if (!gives.length || gives.length === 3) return;
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.textContent = gives.join(", ");
    tile.append(badge);
  });
}
