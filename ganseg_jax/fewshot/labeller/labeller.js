// Painting label maps. The labels are one byte for each pixel of the image; what is seen is drawn
// from them, so that brush strokes have no soft edges that belong to no class.
"use strict";

const element = (id) => document.getElementById(id);
const HISTORY = 100;

const state = {
  overview: null, index: 0, image: null, labels: null, colors: [],
  tool: "brush", active: 1, undo: [], redo: [], stroke: null, polygon: [], changed: false,
};

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

const current = () => state.overview.images[state.index];

async function start() {
  state.overview = await (await ask("api/overview")).json();
  state.colors = state.overview.classes.map((c) => [1, 3, 5].map((i) => parseInt(c.color.slice(i, i + 2), 16)));
  state.overview.classes.forEach((c, i) => {
    const button = document.createElement("button");
    button.setAttribute("role", "radio");
    button.dataset.class = i;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = c.color;
    const key = document.createElement("kbd");
    key.textContent = i < 10 ? i : "";
    button.append(swatch, document.createTextNode(c.name), key);
    button.addEventListener("click", () => chooseClass(i));
    element("classes").append(button);
  });
  for (const image of state.overview.images) {
    const option = document.createElement("option");
    option.textContent = image.name;
    element("images").append(option);
  }
  chooseClass(1);
  chooseTool("brush");
  const first = state.overview.images.findIndex((image) => !image.labelled);
  await open(Math.max(first, 0));
}

async function open(index) {
  if (index < 0 || index >= state.overview.images.length) return;
  if (state.changed && !(await save())) {
    element("images").selectedIndex = state.index;
    return;
  }
  const entry = state.overview.images[index], name = encodeURIComponent(entry.name);
  const [picture, labels] = await Promise.all([
    ask(`api/images/${name}`).then((a) => a.blob()).then(createImageBitmap),
    ask(`api/labels/${name}`).then((a) => a.arrayBuffer()),
  ]);
  Object.assign(state, { index, image: picture, undo: [], redo: [], stroke: null, polygon: [], changed: false });
  state.labels = labels.byteLength ? new Uint8Array(labels) : new Uint8Array(entry.width * entry.height);
  for (const id of ["photo", "overlay"]) {
    element(id).width = entry.width;
    element(id).height = entry.height;
  }
  element("photo").getContext("2d").drawImage(picture, 0, 0);
  element("images").selectedIndex = index;
  const stage = element("stage");
  const fit = Math.min((stage.clientWidth - 32) / entry.width, (stage.clientHeight - 32) / entry.height);
  element("zoom").value = Math.max(1, Math.floor(fit));
  zoom();
  showOverlay();
  showButtons();
  say("");
}

async function save() {
  const entry = current(), labels = state.labels.slice();
  state.changed = false;
  try {
    await ask(`api/labels/${encodeURIComponent(entry.name)}`, { method: "PUT", body: labels });
  } catch (error) {
    state.changed = true;
    say(`Not saved: ${error.message}`, true);
    return false;
  }
  entry.labelled = true;
  showButtons();
  say(`Saved ${entry.name}`);
  return true;
}

// ---- what is seen

function showOverlay() {
  const { width, height } = current();
  const context = element("overlay").getContext("2d");
  const pixels = context.createImageData(width, height);
  const alpha = Math.round(element("opacity").value * 2.55);
  state.labels.forEach((label, i) => {
    if (label === 0) return;
    const [r, g, b] = state.colors[label] ?? [128, 128, 128];
    pixels.data.set([r, g, b, alpha], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
}

function showDrawing(pointer) {
  const canvas = element("drawing"), scale = Number(element("zoom").value);
  canvas.width = current().width * scale;
  canvas.height = current().height * scale;
  const context = canvas.getContext("2d");
  context.strokeStyle = state.overview.classes[paintedClass()].color;
  context.lineWidth = 2;
  if (state.tool === "polygon" && state.polygon.length) {
    context.beginPath();
    [...state.polygon, ...(pointer ? [pointer] : [])].forEach(([x, y]) => context.lineTo(x * scale, y * scale));
    context.closePath();
    context.stroke();
  } else if (state.tool !== "polygon" && pointer) {
    context.beginPath();
    context.arc(pointer[0] * scale, pointer[1] * scale, (element("size").value / 2) * scale, 0, 2 * Math.PI);
    context.stroke();
  }
}

function zoom() {
  const scale = Number(element("zoom").value), board = element("board");
  board.style.width = `${current().width * scale}px`;
  board.style.height = `${current().height * scale}px`;
  showValues();
  showDrawing();
}

function showValues() {
  element("size-value").textContent = `${element("size").value} px`;
  element("opacity-value").textContent = `${element("opacity").value} %`;
  element("zoom-value").textContent = `${element("zoom").value}×`;
}

function showButtons() {
  element("undo").disabled = !state.undo.length;
  element("redo").disabled = !state.redo.length;
  element("save").disabled = !state.changed && current().labelled;
  element("previous").disabled = state.index === 0;
  element("next").disabled = state.index === state.overview.images.length - 1;
  const done = state.overview.images.filter((image) => image.labelled).length;
  element("progress").textContent = `${done} of ${state.overview.images.length} labelled`;
  [...element("images").options].forEach((option, i) => {
    const { name, labelled } = state.overview.images[i];
    option.textContent = labelled ? `${name} ✓` : name;
  });
}

function check(group, isChosen) {
  for (const button of group.children) button.setAttribute("aria-checked", isChosen(button));
}

function chooseClass(i) {
  state.active = i;
  check(element("classes"), (button) => Number(button.dataset.class) === i);
}

function chooseTool(tool) {
  state.tool = tool;
  state.polygon = [];
  check(element("tools"), (button) => button.dataset.tool === tool);
  if (state.labels) showDrawing();
}

// ---- changes

const paintedClass = () => (state.tool === "eraser" ? 0 : state.active);

function remember() {
  state.undo.push(state.labels.slice());
  if (state.undo.length > HISTORY) state.undo.shift();
  state.redo = [];
}

function changed() {
  state.changed = true;
  showOverlay();
  showButtons();
}

function step(from, to) {
  if (!from.length) return;
  to.push(state.labels);
  state.labels = from.pop();
  changed();
}

// Sets the pixels whose centres are within the brush of the segment between two points.
function paintSegment([x0, y0], [x1, y1]) {
  const { width, height } = current();
  const radius = Math.max(element("size").value / 2, 0.5), value = paintedClass();
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - radius)), right = Math.min(width, Math.ceil(Math.max(x0, x1) + radius));
  const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius)), bottom = Math.min(height, Math.ceil(Math.max(y0, y1) + radius));
  const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - x0, py = y + 0.5 - y0;
      const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      if (Math.hypot(px - t * dx, py - t * dy) <= radius) state.labels[y * width + x] = value;
    }
  }
  // The finest brush paints at least the pixel under the pointer.
  if (x1 >= 0 && y1 >= 0 && x1 < width && y1 < height) state.labels[Math.floor(y1) * width + Math.floor(x1)] = value;
}

// Sets the pixels whose centres are inside, by the even-odd rule.
function fillPolygon(points) {
  const { width, height } = current();
  for (let y = 0; y < height; y++) {
    const crossings = [], cy = y + 0.5;
    points.forEach(([x0, y0], i) => {
      const [x1, y1] = points[(i + 1) % points.length];
      if (y0 <= cy !== y1 <= cy) crossings.push(x0 + ((cy - y0) * (x1 - x0)) / (y1 - y0));
    });
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i] - 0.5)), to = Math.min(width, Math.ceil(crossings[i + 1] - 0.5));
      state.labels.fill(paintedClass(), y * width + from, y * width + Math.max(from, to));
    }
  }
}

function closePolygon() {
  if (state.polygon.length >= 3) {
    remember();
    fillPolygon(state.polygon);
    changed();
  }
  state.polygon = [];
  showDrawing();
}

// ---- events

function place(event) {
  const box = element("board").getBoundingClientRect(), { width, height } = current();
  return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
}

const board = element("board");
board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !state.labels) return;
  const here = place(event);
  if (state.tool === "polygon") {
    state.polygon.push(here);
  } else {
    board.setPointerCapture(event.pointerId);
    remember();
    state.stroke = here;
    paintSegment(here, here);
    changed();
  }
  showDrawing(here);
});
board.addEventListener("pointermove", (event) => {
  if (!state.labels) return;
  const here = place(event);
  if (state.stroke) {
    paintSegment(state.stroke, here);
    state.stroke = here;
    changed();
  }
  showDrawing(here);
});
for (const kind of ["pointerup", "pointercancel"]) board.addEventListener(kind, () => { state.stroke = null; });
board.addEventListener("pointerleave", () => { if (state.labels) showDrawing(); });
board.addEventListener("dblclick", () => {
  if (state.tool !== "polygon") return;
  state.polygon.pop(); // the second click of the two set the same corner again
  closePolygon();
});

const act = (work) => () => Promise.resolve(work()).catch((error) => say(error.message, true));
element("undo").addEventListener("click", () => step(state.undo, state.redo));
element("redo").addEventListener("click", () => step(state.redo, state.undo));
element("save").addEventListener("click", act(save));
element("previous").addEventListener("click", act(() => open(state.index - 1)));
element("next").addEventListener("click", act(() => open(state.index + 1)));
element("images").addEventListener("change", act(() => open(element("images").selectedIndex)));
element("opacity").addEventListener("input", () => { showValues(); showOverlay(); });
element("size").addEventListener("input", showValues);
element("zoom").addEventListener("input", zoom);
for (const button of element("tools").children) button.addEventListener("click", () => chooseTool(button.dataset.tool));

const keys = {
  b: () => chooseTool("brush"), e: () => chooseTool("eraser"), p: () => chooseTool("polygon"),
  "[": () => { element("size").stepDown(); showValues(); }, "]": () => { element("size").stepUp(); showValues(); },
  Enter: closePolygon, Escape: () => { state.polygon = []; showDrawing(); },
  ArrowLeft: act(() => open(state.index - 1)), ArrowRight: act(() => open(state.index + 1)),
};
const controlKeys = {
  z: () => step(state.undo, state.redo), y: () => step(state.redo, state.undo),
  Z: () => step(state.redo, state.undo), s: act(save),
};
document.addEventListener("keydown", (event) => {
  if (!state.labels || state.stroke) return;
  const isField = ["INPUT", "SELECT"].includes(event.target.tagName);
  const control = event.ctrlKey || event.metaKey;
  if (isField && !control) return;
  let work = control ? controlKeys[event.key] : keys[event.key];
  // Enter and arrows on a focused button press that button.
  if (event.key === "Enter" && event.target.tagName === "BUTTON" && !state.polygon.length) return;
  if (!control && /^[0-9]$/.test(event.key) && Number(event.key) < state.overview.classes.length) work = () => chooseClass(Number(event.key));
  if (!work) return;
  event.preventDefault();
  work();
});
window.addEventListener("beforeunload", (event) => { if (state.changed) event.preventDefault(); });

start().catch((error) => say(error.message, true));
