// The dots on a sample: a part's centre moves it, its points bend it, the ring's handle grows and
// turns it. Coordinates of points are (row, col) from -1 to 1; those of the drawing 0 to 1000.

// The invisible circles around the dots are what is hit: fingers are thicker than dots.
const SVG = "http://www.w3.org/2000/svg";
const STEP = 0.02, HIT = 34;

function node(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export function handles(svg, { begin, move, end, choose, color, name }) {
  let points = [], part = 1, span = 1, drag = null, groups = [];
  const ring = [node("circle", { class: "ring under" }), node("circle", { class: "ring" })];
  const turner = node("g", {});
  turner.append(hit("Size and direction of the chosen part"), node("circle", { class: "turner", r: 13 }));

  function hit(label) {
    return node("circle", { class: "hit", r: HIT, tabindex: 0, role: "button", "aria-label": label });
  }
  const place = ([row, col]) => [((col * span + 1) / 2) * 1000, ((row * span + 1) / 2) * 1000];
  const back = (x, y) => [((y / 1000) * 2 - 1) / span, ((x / 1000) * 2 - 1) / span];
  const center = (some) => [0, 1].map((axis) => some.reduce((sum, point) => sum + point[axis], 0) / some.length);

  function build() {
    groups = points.map((some, k) => {
      const group = node("g", {}), ties = some.map(() => node("line", { class: "tie" }));
      const dots = some.map((_, p) => {
        const dot = node("g", {});
        dot.append(hit(`Point ${p + 1} of ${name(k + 1)}`), node("circle", { class: "dot", r: 12 }));
        dot.firstChild.dataset.part = k + 1;
        dot.firstChild.dataset.point = p;
        return dot;
      });
      const middle = node("g", {});
      middle.append(hit(`${name(k + 1)}: move it`), node("circle", { class: "center", r: 20 }));
      middle.firstChild.dataset.part = k + 1;
      group.append(...ties, ...dots, middle);
      return { group, ties, dots, middle };
    });
    svg.replaceChildren(...ring, ...groups.map(({ group }) => group), turner);
  }

  const put = (dot, [x, y]) => dot.querySelectorAll("circle").forEach((circle) => {
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", y);
  });

  function radius(some, [x, y]) {
    const far = some.map(place).map(([u, v]) => Math.hypot(u - x, v - y));
    return Math.max(62, ...far.map((d) => d + 34));
  }

  function draw() {
    points.forEach((some, k) => {
      const { group, ties, dots, middle } = groups[k], at = place(center(some)), fill = color(k + 1);
      group.classList.toggle("idle", k + 1 !== part);
      some.forEach((point, p) => {
        const [x, y] = place(point);
        for (const [key, value] of Object.entries({ x1: at[0], y1: at[1], x2: x, y2: y, stroke: fill })) ties[p].setAttribute(key, value);
        put(dots[p], [x, y]);
        dots[p].lastChild.setAttribute("fill", fill);
        dots[p].firstChild.setAttribute("tabindex", k + 1 === part ? 0 : -1);
        dots[p].style.display = k + 1 === part ? "" : "none";
      });
      put(middle, at);
      middle.lastChild.setAttribute("fill", fill);
    });
    const some = points[part - 1];
    for (const shape of [...ring, turner]) shape.style.display = some ? "" : "none";
    if (!some) return;
    const [x, y] = place(center(some)), r = radius(some, [x, y]);
    ring.forEach((circle) => { put({ querySelectorAll: () => [circle] }, [x, y]); circle.setAttribute("r", r); });
    // Where the image ends, the handle goes to the other side.
    const side = x + r * 0.71 > 990 || y - r * 0.71 < 10 ? -1 : 1;
    put(turner, [x + side * r * 0.71, y - side * r * 0.71]);
  }

  const changedPart = (how) => {
    points = points.map((some, k) => (k + 1 === part ? how(some) : some));
    draw();
    move(points);
  };
  const moved = (dr, dc) => (some) => some.map(([row, col]) => [row + dr, col + dc]);
  function scaled(factor, degrees) {
    const angle = (degrees * Math.PI) / 180, cos = factor * Math.cos(angle), sin = factor * Math.sin(angle);
    return (some) => {
      const [r, c] = center(some);
      // Clockwise as seen, since rows run down.
      return some.map(([row, col]) => [r + cos * (row - r) + sin * (col - c), c + cos * (col - c) - sin * (row - r)]);
    };
  }

  const where = (event) => {
    const box = svg.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 1000, ((event.clientY - box.top) / box.height) * 1000];
  };

  // A finger on a dot pulls it, elsewhere it scrolls the page. (touch-action has no effect on circles.)
  svg.addEventListener("touchstart", (event) => event.target.closest(".hit") && event.preventDefault(), { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    const target = event.target.closest(".hit");
    if (!target || event.button) return;
    event.preventDefault();
    target.focus({ focusVisible: false });
    svg.setPointerCapture(event.pointerId);
    begin();
    const start = where(event);
    if (target.dataset.part) pick(Number(target.dataset.part));
    const some = points[part - 1], at = place(center(some));
    drag = { start, some, at, point: target.dataset.point, turner: !target.dataset.part, pointer: event.pointerId };
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drag || event.pointerId !== drag.pointer) return;
    const now = where(event), [r0, c0] = back(...drag.start), [r1, c1] = back(...now);
    if (drag.turner) {
      const from = [drag.start[0] - drag.at[0], drag.start[1] - drag.at[1]], to = [now[0] - drag.at[0], now[1] - drag.at[1]];
      const factor = Math.min(8, Math.max(0.1, Math.hypot(...to) / Math.hypot(...from)));
      const degrees = ((Math.atan2(to[1], to[0]) - Math.atan2(from[1], from[0])) * 180) / Math.PI;
      changedPart(() => scaled(factor, degrees)(drag.some));
    } else if (drag.point !== undefined) {
      changedPart(() => drag.some.map((point, p) => (p === Number(drag.point) ? [point[0] + r1 - r0, point[1] + c1 - c0] : point)));
    } else {
      changedPart(() => moved(r1 - r0, c1 - c0)(drag.some));
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    svg.addEventListener(kind, () => { if (drag) { drag = null; end(); } });
  }
  svg.addEventListener("focusin", (event) => event.target.dataset.part && pick(Number(event.target.dataset.part)));
  svg.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 4 * STEP : STEP;
    const ways = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
    const others = { "+": [1.05, 0], "=": [1.05, 0], "-": [1 / 1.05, 0], "[": [1, -5], "]": [1, 5] };
    if (event.ctrlKey || event.metaKey || !(event.key in ways || event.key in others)) return;
    event.preventDefault();
    if (!event.repeat) begin();
    const point = event.target.dataset.point;
    if (event.key in others) changedPart(scaled(...others[event.key]));
    else if (point === undefined) changedPart(moved(...ways[event.key]));
    else changedPart((some) => some.map(([r, c], p) => (p === Number(point) ? [r + ways[event.key][0], c + ways[event.key][1]] : [r, c])));
  });
  svg.addEventListener("keyup", (event) => /^Arrow|[+=\-[\]]/.test(event.key) && end());

  function pick(chosen) {
    if (chosen === part) return;
    part = chosen;
    draw();
    choose(part);
  }

  return {
    show(given, chosen, state) {
      span = state.grid === "centers" ? 1 : (state.size - 1) / state.size;
      const anew = given.length !== points.length || groups.length !== given.length;
      points = given;
      part = Math.min(Math.max(chosen, 1), given.length);
      if (anew) build();
      draw();
    },
    grow: (factor) => changedPart(scaled(factor, 0)),
    turn: (degrees) => changedPart(scaled(1, degrees)),
    held: () => drag !== null,
  };
}
