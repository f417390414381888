// Frames drawn on canvases: the image, its parts over it, or the parts alone.

const DARK = [33, 37, 46], UNSURE = [255, 64, 129];

// mix: 0 image, 50 overlay, 100 parts. look: {color(label), hidden(label)} of the parts.
export function paint(canvas, frame, look, { mix = 0, unsure = false, lit = 0 } = {}) {
  const { width, height, rgb, labels, sure } = frame;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), out = image.data;
  const colors = Array.from({ length: 256 }, (_, label) => look.color(label));
  const over = mix <= 50 ? 0.65 * mix / 50 : 0.65 + 0.35 * (mix - 50) / 50;
  const dark = mix <= 50 ? 0 : (mix - 50) / 50;
  for (let i = 0, j = 0, k = 0; i < labels.length; i++, j += 3, k += 4) {
    const color = colors[labels[i]], shown = color !== null;
    const isLit = lit && look.same(labels[i], lit);
    const share = !shown ? dark : isLit ? Math.max(over, 0.55) : lit ? over * 0.45 : over;
    const target = shown ? color : DARK;
    // Under colour the image turns grey, so that parts keep their hue.
    const grey = 0.299 * rgb[j] + 0.587 * rgb[j + 1] + 0.114 * rgb[j + 2];
    const pale = shown ? Math.min(0.75, 1.5 * share) : 0;
    const doubt = unsure ? Math.min(1, (255 - sure[i]) / 170) : 0;
    for (let c = 0; c < 3; c++) {
      const base = rgb[j + c] + pale * (grey - rgb[j + c]);
      const mixed = base * (1 - share) + target[c] * share;
      out[k + c] = mixed + 0.85 * doubt * (UNSURE[c] - mixed);
    }
    out[k + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// The label under the pointer, or 0.
export function labelAt(canvas, frame, event) {
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * frame.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * frame.height);
  const inside = x >= 0 && y >= 0 && x < frame.width && y < frame.height;
  return inside ? frame.labels[y * frame.width + x] : 0;
}

export function showTip(stage, event, text) {
  const tip = stage.querySelector(".tip"), box = stage.getBoundingClientRect();
  tip.hidden = !text;
  tip.textContent = text;
  const half = tip.offsetWidth / 2 + 4;
  tip.style.left = `${Math.min(Math.max(event.clientX - box.left, half), box.width - half)}px`;
  tip.style.top = `${Math.max(event.clientY - box.top, 44)}px`;
}

export const rgbOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
