// The page: which view is seen, what the server is doing, and whether it is there at all.
import { getJson } from "./api.js";
import * as address from "./address.js";
import * as named from "./parts.js";
import * as samples from "./samples.js";
import * as photos from "./photos.js";
import * as run from "./run.js";
import * as labels from "./labels.js";
import { words } from "./run.js";

const element = (id) => document.getElementById(id), banner = element("banner");
const sections = [...document.querySelectorAll("section[data-view]")];
const page = { state: null, gone: false, ready: false };
window.studio = { page, address: address.address, sample: samples.sample, photos: photos.photos, parts: named.parts };
let quiet;

function say(text, bad = false) {
  clearTimeout(quiet);
  if (page.gone) return;
  banner.hidden = !text;
  banner.textContent = text;
  banner.classList.toggle("bad", bad);
  if (text) quiet = setTimeout(() => { banner.hidden = true; }, bad ? 12000 : 4000);
}

function show() {
  const view = sections.some((s) => s.dataset.view === address.address.view) ? address.address.view : "samples";
  address.address.view = view;
  sections.forEach((section) => (section.hidden = section.dataset.view !== view));
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  document.querySelector("main").classList.toggle("wide", view === "run" || view === "labels");
  run.close();
  labels.close();
  named.parts.lit = 0;
  document.querySelectorAll(".tip").forEach((tip) => (tip.hidden = true));
  if (view !== "photos") photos.stopCamera();
  if (!page.state) return;
  if (view === "run") run.open(page.state);
  if (view === "labels") labels.open(page.state);
  samples.repaint();
  photos.repaint();
}

function go(view) {
  if (address.address.view === view) return;
  address.address.view = view;
  address.writeNow();
  show();
}

// ---- the server: compiling, ready, gone, back again

async function poll() {
  let state;
  try {
    state = await getJson("api/state");
  } catch (error) {
    if (!page.gone) say(error.message, true);
    setTimeout(poll, 1500);
    return;
  }
  if (page.gone) {
    page.gone = false;
    page.ready = false;
    say("");
  }
  page.state = state;
  document.title = `${state.model} · Studio`;
  element("model").textContent = state.model;
  if (state.doing) {
    const before = state.before_seconds ? ` (everything took ${words(state.before_seconds)} last time)` : "";
    clearTimeout(quiet);
    banner.hidden = false;
    banner.classList.remove("bad");
    banner.textContent = `${state.doing[0].toUpperCase()}${state.doing.slice(1)} ... ${words(state.doing_seconds)}${before}`;
    setTimeout(poll, 500);
    return;
  }
  if (page.ready) return;
  page.ready = true;
  say(state.problems.model ?? state.problems.parts ?? "", true);
  named.show(state);
  photos.refresh(state);
  samples.open(state);
  show();
}

window.addEventListener("gone", () => {
  if (page.gone) return;
  page.gone = true;
  clearTimeout(quiet);
  banner.hidden = false;
  banner.classList.add("bad");
  banner.textContent = "The studio has ended. Start it again in the terminal: this page then continues by itself.";
  setTimeout(poll, 1500);
});

document.querySelector("nav").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  go(link.dataset.view);
});
window.addEventListener("hashchange", () => {
  address.read();
  show();
  if (page.ready && page.state.size) samples.adoptAddress();
});
named.setUp(
  () => { samples.repaint(); photos.repaint(); photos.repaintTiles(); },
  (part) => {
    address.address.part = part;
    named.choose(part);
    address.write();
    samples.repaint();
  },
);
samples.setUp(say);
photos.setUp(say, () => go("photos"));
run.setUp(say, () => { page.ready = false; poll(); });
labels.setUp(say);
address.read();
show();
poll();
