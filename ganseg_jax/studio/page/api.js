// Requests to the server this page came from. Paths are relative: the token is in the address.

export class Gone extends Error {}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    window.dispatchEvent(new Event("gone"));
    throw new Gone("The studio cannot be reached.");
  }
  if (answer.status === 409) return null; // A newer request has taken its place.
  if (!answer.ok) throw new Error((await answer.text()) || `error ${answer.status}`);
  return answer;
}

const asJson = (method, content) => ({
  method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
});

export const getJson = async (path) => (await ask(path)).json();
export const sendJson = async (method, path, content = {}) => (await ask(path, asJson(method, content))).json();

// A frame: the length of a header, the header, then RGB, label and certainty of every pixel.
function frameOf(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const width = header.width ?? header.size, height = header.height ?? header.size;
  const count = width * height, start = 4 + length;
  return {
    ...header, width, height,
    rgb: new Uint8Array(buffer, start, 3 * count),
    labels: new Uint8Array(buffer, start + 3 * count, count),
    sure: new Uint8Array(buffer, start + 4 * count, count),
  };
}

const page = crypto.randomUUID();

export async function draw(wanted, kind, signal) {
  const options = asJson("POST", { ...wanted, kind, page });
  const answer = await ask("api/draw", { ...options, signal });
  return answer && frameOf(await answer.arrayBuffer());
}

export async function segment(blob) {
  const answer = await ask("api/segment", {
    method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: blob,
  });
  return frameOf(await answer.arrayBuffer());
}
