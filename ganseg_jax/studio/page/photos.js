// Photos and their parts: dropped, pasted, chosen, or from the camera.
import { Gone, segment } from "./api.js";
import { labelAt, paint, showTip } from "./picture.js";
import * as named from "./parts.js";
import { address } from "./address.js";

const element = (id) => document.getElementById(id);
const section = document.querySelector('section[data-view="photos"]');
const canvas = element("photo"), stage = section.querySelector(".stage"), range = section.querySelector(".mix-range");
export const photos = { all: [], shown: null, state: null, say: () => {} };
let queue = Promise.resolve(), camera = null;

export function setUp(say, show) {
  photos.say = say;
  element("choose").addEventListener("click", () => element("files").click());
  element("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
  element("camera").addEventListener("click", () => (camera ? stopCamera() : startCamera()));
  element("keep").addEventListener("click", () => photos.shown && keep(photos.shown));
  element("save-photo").addEventListener("click", save);
  element("unsure").addEventListener("change", repaint);
  range.addEventListener("input", repaint);
  for (const kind of ["dragenter", "dragover"]) {
    window.addEventListener(kind, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      show();
      element("drop").classList.add("over");
    });
  }
  window.addEventListener("dragleave", (event) => event.relatedTarget ?? element("drop").classList.remove("over"));
  window.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    element("drop").classList.remove("over");
    show();
    add(event.dataTransfer.files);
  });
  window.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) { show(); add(event.clipboardData.files); }
  });
  canvas.addEventListener("pointermove", (event) => hover(event));
  canvas.addEventListener("pointerdown", (event) => hover(event));
  canvas.addEventListener("pointerleave", (event) => { named.parts.lit = 0; showTip(stage, event, ""); repaint(); });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const done = photos.all.filter((entry) => entry.frame), next = done[done.indexOf(photos.shown) + way];
    if (way && next) { event.preventDefault(); open(next); }
  });
}

export function refresh(state) {
  photos.state = state;
  for (const id of ["choose", "camera"]) element(id).disabled = !state.segments;
  const problem = state.problems.segmenter;
  element("drop-note").textContent = problem ? `Photos cannot be segmented yet: ${problem}` : "They stay on this machine.";
  element("drop-note").classList.toggle("problem", !!problem);
  for (const entry of photos.all.filter((each) => each.waits)) {
    entry.waits = false;
    queue = queue.then(() => work(entry));
  }
}

function hover(event) {
  if (!photos.shown) return;
  const label = labelAt(canvas, photos.shown.frame, event), seen = !named.hidden(label);
  showTip(stage, event, seen ? named.nameOf(label) : "");
  if (named.parts.lit !== (seen ? label : 0)) {
    named.parts.lit = seen ? label : 0;
    repaint();
  }
}

export function add(files) {
  for (const file of files) {
    const entry = { name: file.name, file, frame: null, problem: "" };
    photos.all.push(entry);
    tile(entry);
    queue = queue.then(() => work(entry));
  }
}

async function work(entry) {
  const limit = photos.state?.most_bytes ?? Infinity;
  try {
    if (entry.file.size > limit) throw new Error(`it is larger than ${Math.round(limit / 1e6)} MB`);
    entry.frame = await segment(entry.file);
    // The first is shown at once; later ones do not take its place while a person looks at it.
    if (!photos.shown || entry === photos.all.at(-1)) open(entry);
    paint(entry.tile.firstChild, entry.frame, named.look, { mix: 50 });
  } catch (error) {
    if (error instanceof Gone) { entry.waits = true; return; } // Until the studio is back.
    entry.problem = error.message;
    entry.tile.classList.add("failed");
    entry.tile.title = `${entry.name}: ${error.message}`;
    photos.say(`${entry.name}: ${error.message}`, true);
  }
  entry.file = null;
  entry.tile.classList.remove("busy");
}

function tile(entry) {
  entry.tile = document.createElement("button");
  entry.tile.className = "tile busy";
  entry.tile.setAttribute("aria-label", entry.name);
  entry.tile.title = entry.name;
  entry.tile.append(document.createElement("canvas"));
  entry.tile.addEventListener("click", () => (entry.frame ? open(entry) : photos.say(`${entry.name}: ${entry.problem || "is being segmented"}`, !!entry.problem)));
  element("strip").append(entry.tile);
}

function open(entry) {
  photos.shown = entry;
  element("photo-body").hidden = false;
  element("drop").classList.add("small");
  photos.all.forEach((other) => other.tile.classList.toggle("chosen", other === entry));
  const { note, file_width, file_height } = entry.frame;
  element("photo-note").textContent = [entry.name, `${file_width} × ${file_height}`, note].filter(Boolean).join(" · ");
  // Small photos are shown large: as wide as there is room, and not higher than most of the window.
  stage.style.aspectRatio = `${entry.frame.width} / ${entry.frame.height}`;
  stage.style.width = `min(100%, ${(64 * entry.frame.width) / entry.frame.height}vh)`;
  repaint();
}

export function repaint() {
  if (!photos.shown) return;
  const { frame } = photos.shown;
  paint(canvas, frame, named.look, { mix: Number(range.value), unsure: element("unsure").checked, lit: named.parts.lit });
  if (address.view === "photos") named.showShares(frame.parts.map((part) => part.share));
}

export function repaintTiles() {
  for (const { frame, tile } of photos.all) if (frame) paint(tile.firstChild, frame, named.look, { mix: 50 });
}

function save() {
  if (!photos.shown) return;
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${photos.shown.name.replace(/\.\w+$/, "")}_parts.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// ---- the camera: one picture after the other, as fast as they are segmented

async function startCamera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
    const video = document.createElement("video");
    Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    camera = { stream, video };
  } catch (error) {
    photos.say(`The camera cannot be used: ${error.message}`, true);
    return;
  }
  element("camera").textContent = "Stop the camera";
  element("keep").hidden = false;
  const still = document.createElement("canvas");
  while (camera) {
    still.width = camera.video.videoWidth;
    still.height = camera.video.videoHeight;
    still.getContext("2d").drawImage(camera.video, 0, 0);
    const blob = await new Promise((resolve) => still.toBlob(resolve, "image/jpeg", 0.9));
    try {
      const frame = await segment(blob);
      if (camera) open({ name: "camera", frame, tile: null });
    } catch (error) {
      photos.say(error.message, true);
      stopCamera();
    }
  }
}

export function stopCamera() {
  camera?.stream.getTracks().forEach((track) => track.stop());
  camera = null;
  element("camera").textContent = "Use the camera";
  element("keep").hidden = true;
}

function keep({ name, frame }) {
  const entry = { name: `${name} ${photos.all.length + 1}`, frame, problem: "" };
  photos.all.push(entry);
  tile(entry);
  entry.tile.classList.remove("busy");
  paint(entry.tile.firstChild, frame, named.look, { mix: 50 });
}
