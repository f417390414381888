// A training: how far it is, its curves, its newest samples beside earlier ones.
import { getJson, sendJson } from "./api.js";
import { make } from "./make.js";

const body = document.getElementById("run-body");
const EVERY = 5000;
let timer, say = () => {}, shown = "", reload = () => {};

export function setUp(sayIt, reloadIt) {
  say = sayIt;
  reload = reloadIt;
}

export async function open(state) {
  clearTimeout(timer);
  if (!state.is_run) {
    body.replaceChildren(make("div", { class: "empty" }, "This model was packed or made from labels: it has no training to show. Open the studio with a workdir for that."));
    return;
  }
  await refresh();
}

export function close() { clearTimeout(timer); }

async function refresh() {
  clearTimeout(timer);
  try {
    show(await getJson("api/run"));
  } catch (error) {
    if (error.constructor.name !== "Gone") say(error.message, true);
  }
  timer = setTimeout(refresh, EVERY);
}

async function change(what) {
  try {
    show(await sendJson("POST", `api/run/${what}`));
    say({ stop: "Asked to end: it saves first.", resume: "Started again.", load: "" }[what]);
    if (what === "load") reload();
  } catch (error) {
    say(error.message, true);
  }
}

export function words(seconds) {
  if (seconds === null) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function show(run) {
  // What has not changed is left alone, so that nothing flickers and nobody loses the focus.
  const key = JSON.stringify(run, (name, value) => (name === "age" ? undefined : value));
  if (key === shown && body.firstChild) return;
  shown = key;
  const status = run.alive ? "Training" : run.finished ? "Finished" : "Not running";
  const stop = make("button", { type: "button" }, "Stop"), resume = make("button", { type: "button", class: "primary" }, "Resume");
  stop.addEventListener("click", () => confirm("Stop the training? It saves first, and can be resumed.") && change("stop"));
  resume.addEventListener("click", () => change("resume"));
  const load = make("button", { type: "button", title: "For samples and photos" }, "Load the newest networks");
  load.addEventListener("click", () => change("load"));
  const buttons = make("span", { class: "row" }, load, ...(run.can_stop ? [stop] : []), ...(run.can_resume ? [resume] : []));
  body.replaceChildren(
    make("div", { class: "card" }, make("header", {}, make("h2", {}, status), buttons),
      ...(run.note ? [make("p", { class: "problem" }, run.note)] : []),
      ...(run.finished || run.alive || run.can_resume ? [] : [make("p", { class: "hint" }, "The stages are trained; the report is written by the command that trained them.")])),
    ...run.stages.map((stage) => card(stage, run.alive)));
}

function card(stage, alive) {
  const begun = stage.step > 0, done = stage.step >= stage.total;
  const left = alive && begun && !done && stage.seconds_left !== null ? ` · ${words(stage.seconds_left)} left` : "";
  const progress = make("progress", { max: stage.total || 1, value: stage.step, "aria-label": `${stage.title}: steps` });
  const curves = make("div", { class: "curves" });
  for (const { name, svg } of stage.curves) {
    const drawn = new DOMParser().parseFromString(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '), "image/svg+xml").documentElement;
    curves.append(make("div", {}, make("h3", {}, name), document.importNode(drawn, true)));
  }
  const pair = make("div", { class: "pair" });
  for (const picture of [stage.hour_before, stage.newest]) {
    if (!picture) continue;
    const caption = `${picture === stage.newest ? "Newest samples" : "Before"}: step ${picture.step}, ${words(picture.age)} old`;
    pair.append(make("figure", {}, make("figcaption", {}, caption),
      make("img", { src: `api/run/${stage.name}/${picture.file}`, alt: caption, loading: "lazy" })));
  }
  return make("div", { class: "card" },
    make("header", {}, make("h2", {}, stage.title), make("span", { class: "hint" }, `${begun ? `step ${stage.step} of ${stage.total}` : "not begun"}${left}`)),
    progress, curves, pair);
}
