// What the parts are called: a list to edit, and the look that pictures take from it.
import { sendJson } from "./api.js";
import { make } from "./make.js";
import { rgbOf } from "./picture.js";

const list = document.getElementById("part-list"), note = document.getElementById("parts-note");
export const parts = { entries: [], colors: [], file: "", lit: 0, chosen: 0, shares: [] };
let saving, changed = () => {}, chose = () => {};

export function setUp(onChange, onChoose) {
  changed = onChange;
  chose = onChoose;
}

export function show(state) {
  parts.entries = state.parts;
  parts.colors = state.colors;
  parts.file = state.parts_file;
  build();
}

const leader = (label) => parts.entries[label - 1]?.into ?? label;
export const nameOf = (label) => {
  const entry = parts.entries[leader(label) - 1];
  return entry?.name || `part ${leader(label)}`;
};
export const colorOf = (label) => parts.entries[leader(label) - 1]?.color || parts.colors[leader(label)] || "#888888";
export const hidden = (label) =>
  label === 0 || !!parts.entries[label - 1]?.hidden || !!parts.entries[leader(label) - 1]?.hidden;

export const look = {
  color: (label) => (hidden(label) ? null : rgbOf(colorOf(label))),
  same: (a, b) => a > 0 && leader(a) === leader(b),
};
// Parts of a generator that a few-shot model does not share.
export const plainLook = (colors) => ({
  color: (label) => (label ? rgbOf(colors[label] ?? "#888888") : null),
  same: (a, b) => a > 0 && a === b,
});

export function showShares(shares) {
  parts.shares = shares;
  list.querySelectorAll(".share").forEach((cell, i) => {
    const share = shares[i];
    cell.textContent = share === undefined ? "" : share < 0.0005 ? "–" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
  });
}

export function choose(label) {
  parts.chosen = label;
  [...list.children].forEach((row, i) => row.classList.toggle("chosen", i + 1 === label));
}

function build() {
  const focused = document.activeElement?.id;
  list.replaceChildren(...parts.entries.map((entry, i) => row(entry, i + 1)));
  document.getElementById("parts").hidden = !parts.entries.length;
  showShares(parts.shares);
  choose(parts.chosen);
  if (focused) document.getElementById(focused)?.focus();
}

function row(entry, label) {
  const color = make("input", { type: "color", id: `part-color-${label}`, value: colorOf(label), "aria-label": `Colour of ${nameOf(label)}` });
  const name = make("input", {
    type: "text", id: `part-name-${label}`, value: entry.name, placeholder: `part ${label}`, maxlength: 60,
    "aria-label": `Name of part ${label}`, autocomplete: "off", spellcheck: "false",
  });
  const share = make("span", { class: "share" });
  const eye = make("button", {
    type: "button", id: `part-eye-${label}`, "aria-pressed": String(entry.hidden),
    title: entry.hidden ? "Hidden: counts as background" : "Hide", "aria-label": `Hide ${nameOf(label)}`,
  }, entry.hidden ? "off" : "hide");
  const merge = make("select", { id: `part-into-${label}`, "aria-label": `What ${nameOf(label)} belongs to` },
    make("option", { value: "" }, "stands for itself"));
  parts.entries.forEach((other, j) => {
    if (j + 1 !== label && other.into === null) merge.append(make("option", { value: j + 1 }, `belongs to ${nameOf(j + 1)}`));
  });
  merge.value = entry.into ?? "";
  merge.disabled = parts.entries.some((other) => other.into === label);
  if (entry.into !== null) color.disabled = name.disabled = true;
  const item = make("li", { class: entry.hidden ? "off" : "" },
    make("div", { class: "part-row" }, color, name, share, eye),
    make("div", { class: "merge" }, merge));
  merge.parentElement.hidden = parts.chosen !== label && entry.into === null;
  color.addEventListener("input", () => edit(label, { color: color.value }, false));
  color.addEventListener("change", () => edit(label, { color: color.value }));
  name.addEventListener("change", () => edit(label, { name: name.value.trim() }));
  name.addEventListener("keydown", (event) => event.key === "Enter" && name.blur());
  eye.addEventListener("click", () => edit(label, { hidden: !entry.hidden }));
  merge.addEventListener("change", () => edit(label, { into: merge.value ? Number(merge.value) : null, ...(merge.value ? { name: "", color: "" } : {}) }));
  item.addEventListener("pointerenter", () => light(label));
  item.addEventListener("pointerleave", () => light(0));
  item.addEventListener("focusin", () => {
    chose(label);
    list.querySelectorAll("li").forEach((other, i) => {
      other.querySelector(".merge").hidden = i + 1 !== label && parts.entries[i]?.into === null;
    });
  });
  return item;
}

function light(label) {
  parts.lit = label;
  changed();
}

function edit(label, change, keep = true) {
  Object.assign(parts.entries[label - 1], change);
  changed();
  if (!keep) return;
  clearTimeout(saving);
  build();
  saving = setTimeout(save, 150);
}

async function save() {
  try {
    const state = await sendJson("PUT", "api/parts", { parts: parts.entries });
    note.textContent = `Saved in ${state.parts_file}`;
    note.classList.remove("problem");
  } catch (error) {
    note.textContent = `Not saved: ${error.message}`;
    note.classList.add("problem");
  }
}
