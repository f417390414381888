// The state of the page, in its address: it can be shared and survives a reload.

const numbers = ["seed", "pose", "look", "background", "part", "mix"];
export const address = {
  view: "samples", seed: 0, pose: 0, look: 0, background: 0, part: 1, mix: 0, points: null,
};

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of numbers) {
    const value = Number(given.get(name));
    if (given.has(name) && Number.isInteger(value) && value >= 0) address[name] = value;
  }
  if (given.has("view")) address.view = given.get("view");
  if (given.has("points") || given.has("pose")) address.points = unpacked(given.get("points"));
}

let waiting;
export function write() {
  // Browsers refuse more than a hundred of these in ten seconds.
  clearTimeout(waiting);
  waiting = setTimeout(writeNow, 150);
}

export function writeNow() {
  clearTimeout(waiting);
  const given = new URLSearchParams({ view: address.view });
  for (const name of numbers) given.set(name, address[name]);
  if (address.points) given.set("points", packed(address.points));
  history.replaceState(null, "", `#${given}`);
}

// Three bytes a coordinate would do; two are a thousandth of a pixel at 64 px.
function packed(points) {
  const values = Int16Array.from(points.flat(2), (x) => Math.max(-32767, Math.min(32767, Math.round(x * 16000))));
  return btoa(String.fromCharCode(...new Uint8Array(values.buffer)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function unpacked(text) {
  if (!text) return null;
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    return Array.from(new Int16Array(bytes.buffer), (x) => x / 16000);
  } catch {
    return null;
  }
}
