// Images to label, the painting page, and few-shot training from them.
import { getJson, sendJson } from "./api.js";
import { make } from "./make.js";

const body = document.getElementById("labels-body");
let timer, say = () => {}, shown = "", hasGenerator = false;

export function setUp(sayIt) { say = sayIt; }
export function close() { clearTimeout(timer); }

export async function open(state) {
  hasGenerator = !!state.size;
  shown = "";
  await refresh();
}

async function refresh() {
  clearTimeout(timer);
  try {
    show(await getJson("api/labelling"));
  } catch (error) {
    if (error.constructor.name !== "Gone") say(error.message, true);
  }
  timer = setTimeout(refresh, 3000);
}

async function change(what, content, done) {
  try {
    show(await sendJson("POST", `api/labelling/${what}`, content));
    say(done);
  } catch (error) {
    say(error.message, true);
  }
}

function show(state) {
  const key = JSON.stringify(state);
  if (key === shown) return;
  shown = key;
  body.replaceChildren(intro(), state.count ? images(state) : form(state), ...(state.count ? [training(state)] : []));
}

const intro = () => make("div", { class: "card" }, make("h2", {}, "Parts of your own"),
  make("p", {}, "The model chose its parts itself. For other parts, paint them on a few generated images: from 1 to 10 labelled images a network learns them and finds them in photos."));

function form(state) {
  const names = make("input", { type: "text", id: "label-classes", placeholder: "head, torso, legs", required: "" });
  const count = make("input", { type: "number", id: "label-count", min: 1, max: 50, value: 5 });
  const button = make("button", { class: "primary", type: "submit" }, "Make images to label");
  button.disabled = !hasGenerator;
  const made = make("form", { class: "form" },
    make("label", {}, "Names of the parts, with commas", names), make("label", {}, "How many images", count), make("div", {}, button));
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    button.textContent = "Making them ...";
    const classes = names.value.split(",").map((name) => name.trim()).filter(Boolean);
    await change("make", { count: Number(count.value), classes }, "");
    button.disabled = false;
    button.textContent = "Make images to label";
  });
  return make("div", { class: "card" }, make("h2", {}, "1. Images"),
    ...(state.problem ? [make("p", { class: "problem" }, state.problem)] : []), made,
    make("p", { class: "hint" }, `They go to ${state.folder}.`));
}

const images = (state) => make("div", { class: "card" }, make("header", {}, make("h2", {}, "1. Paint"),
  make("a", { class: "button primary", href: "label/", target: "_blank", rel: "noopener" }, "Open the painting page")),
  make("progress", { max: state.count, value: state.labelled, "aria-label": "Labelled images" }),
  make("p", { class: "hint" }, `${state.labelled} of ${state.count} images labelled · ${state.classes.join(", ")} · ${state.folder}`));

function training(state) {
  const start = make("button", { class: "primary", type: "button" }, state.finished ? "Train again" : "Train");
  start.disabled = !state.can_train;
  start.addEventListener("click", () => change("train", {}, "Few-shot training has begun."));
  const stop = make("button", { type: "button" }, "Stop");
  stop.addEventListener("click", () => change("stop", {}, "Asked to end."));
  const facts = [];
  if (!state.is_run) facts.push(make("p", { class: "hint" }, "Few-shot training needs the workdir of a run: this model is a packed one."));
  else if (!state.labelled) facts.push(make("p", { class: "hint" }, "Label at least one image first."));
  if (state.line) facts.push(make("p", { class: state.failed ? "problem" : "hint", role: "status" }, state.line));
  if (state.finished) facts.push(make("p", {}, "Finished: open it with ", make("code", {}, `--few_shot=few_shot`), ` (${state.result}).`));
  return make("div", { class: "card" }, make("header", {}, make("h2", {}, "2. Learn them"), state.training ? stop : start), ...facts);
}
