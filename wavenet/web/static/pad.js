// A pad for a blend of two to four voices: a line, a triangle or a square with a voice in each corner, and a point that is
// dragged, or moved by the arrow keys. The shares are the point's barycentric coordinates; in the square, bilinear ones.

const SVG = "http://www.w3.org/2000/svg";
const CORNERS = {
  2: [[0, 0], [1, 0]],
  3: [[0.5, 0], [0, 1], [1, 1]],
  4: [[0, 0], [1, 0], [0, 1], [1, 1]],
}; // prettier-ignore
const STEP = 0.05; // of the width, for a press of an arrow key; with Shift a fifth of it
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LONGEST = 16; // letters of a voice's name beside its corner

const clamp = (value) => Math.min(1, Math.max(0, value));

function sharesAt(x, y, voices) {
  if (voices === 2) return [1 - clamp(x), clamp(x)];
  if (voices === 4) {
    const [right, down] = [clamp(x), clamp(y)];
    return [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down];
  }
  const top = 1 - clamp(y); // heights are shares of the top corner
  const right = clamp(y) === 0 ? 0 : Math.min(clamp(y), Math.max(0, x - 0.5 * top));
  return [top, clamp(y) - right, right];
}

export class Pad {
  static sizes = Object.keys(CORNERS).map(Number);

  constructor(names, onchange) {
    this.names = names;
    this.onchange = onchange;
    this.corners = CORNERS[names.length];
    this.box = { x: 14, y: 30, width: 232, height: names.length === 2 ? 0 : 150 };
    this.root = this.draw();
    this.root.addEventListener("pointerdown", (event) => this.drag(event));
    this.root.addEventListener(
      "pointermove",
      (event) => this.root.hasPointerCapture(event.pointerId) && this.drag(event),
    );
    this.root.addEventListener("keydown", (event) => this.press(event));
    this.shares = names.map((_, i) => (i === 0 ? 1 : 0));
  }

  make(tag, attributes, text = "") {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  draw() {
    const { box, corners } = this;
    const height = box.y + box.height + (this.names.length === 2 ? 18 : 36);
    const root = this.make("svg", { viewBox: `0 0 260 ${height}`, class: "pad", tabindex: "0", role: "slider" });
    root.setAttribute("aria-label", "Blend of the voices");
    root.setAttribute("aria-description", "Arrow keys move between the voices; with Shift in smaller steps.");
    const points = corners.map((corner) => this.place(corner));
    const outline = this.names.length === 4 ? [0, 1, 3, 2].map((i) => points[i]) : points;
    root.append(this.make("polygon", { points: outline.join(" ") }));
    this.lines = points.map(([x1, y1]) => root.appendChild(this.make("line", { x1, y1 })));
    points.forEach(([x, y], i) => {
      root.append(this.make("circle", { cx: x, cy: y, r: 3.5, class: "corner" }));
      const name = this.names[i];
      const anchor = corners[i][0] === 0 ? "start" : corners[i][0] === 1 ? "end" : "middle";
      const at = anchor === "start" ? x - 6 : anchor === "end" ? x + 6 : x;
      const below = corners[i][1] === 1;
      const text = { x: at, y: below ? y + 26 : y - 17, "text-anchor": anchor, class: "voice" };
      root.append(this.make("text", text, name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name));
    });
    this.point = root.appendChild(this.make("circle", { r: 11, class: "point" }));
    return root;
  }

  place([x, y]) {
    return [this.box.x + x * this.box.width, this.box.y + y * this.box.height];
  }

  get shares() {
    return this.current;
  }

  set shares(shares) {
    const total = shares.reduce((sum, share) => sum + share, 0);
    this.current = shares.map((share) => share / total);
    this.at = [0, 1].map((axis) => this.current.reduce((sum, share, i) => sum + share * this.corners[i][axis], 0));
    const [x, y] = this.place(this.at);
    this.point.setAttribute("cx", x);
    this.point.setAttribute("cy", y);
    this.lines.forEach((line, i) => {
      line.setAttribute("x2", x);
      line.setAttribute("y2", y);
      line.style.opacity = String(0.08 + 0.92 * this.current[i]);
    });
    const spoken = this.names.map((name, i) => `${name} ${Math.round(100 * this.current[i])} %`).join(", ");
    this.root.setAttribute("aria-valuemin", "0");
    this.root.setAttribute("aria-valuemax", "100");
    this.root.setAttribute("aria-valuenow", String(Math.round(100 * this.current[0])));
    this.root.setAttribute("aria-valuetext", spoken);
  }

  move(x, y) {
    this.shares = sharesAt(x, y, this.names.length);
    this.onchange(this.shares);
  }

  drag(event) {
    if (event.type === "pointerdown") this.root.setPointerCapture(event.pointerId);
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.root.getScreenCTM().inverse());
    this.move((x - this.box.x) / this.box.width, (y - this.box.y) / (this.box.height || 1));
  }

  press(event) {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const step = event.shiftKey ? STEP / 5 : STEP;
    const across = this.names.length === 2 && arrow[0] === 0 ? [-arrow[1], 0] : arrow; // up is forwards on a line
    this.move(this.at[0] + step * across[0], this.at[1] + step * across[1]);
  }
}
