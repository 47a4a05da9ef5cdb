// The viewer of a case. It shows; nothing here can change a contour, and nothing is sent to the node but requests.

import { contoursBySlice, outlineAcross, sideOf, slabEdges } from "./geometry.js";
import { Greys } from "./greys.js";
import { Pane } from "./pane.js";
import { secondLineControls } from "./second.js";
import { Slices } from "./slices.js";

const WINDOWS = [[40, 400], [-600, 1500], [400, 1800], [40, 80], [50, 150]]; // centre and width in HU
const LINE = 1.5;
const EMPHASIS = 3;

class Viewer {
  constructor(root) {
    this.root = root;
    this.base = root.dataset.case;
    this.shown = [];
    this.emphasis = -1;
    this.window = WINDOWS[0];
    this.withLines = true;
    this.withCross = true;
    this.second = null; // a structure set that came back
    this.secondNumber = "";
    this.withDifference = true;
    this.redraw = false;
    this.seen = 0; // slices that the planes across them show
    this.version = 0; // counts what changes the lines
    this.greys = new Greys();
    this.greys.set(...this.window);
  }

  async open() {
    const [description, points] = await Promise.all([
      fetch(`${this.base}/contours`).then((answer) => this.checked(answer).json()),
      fetch(`${this.base}/points`).then((answer) => this.checked(answer).arrayBuffer()),
    ]);
    const { heights, spacing, rows, columns, organs } = description;
    this.description = description;
    this.organs = contoursBySlice(organs, new Float32Array(points));
    this.shown = organs.map(() => true);
    this.edges = slabEdges(heights);
    this.isUpright = description.axes[2][2] >= 0; // whether later slices are nearer to the head
    this.place = { k: this.startSlice(), j: Math.floor(rows / 2), i: Math.floor(columns / 2) };
    this.slices = new Slices(this.base, description, (k) => this.onLoaded(k));
    const panes = this.root.querySelectorAll(".pane");
    this.axial = new Pane(panes[0], (x, y) => this.setPlace({ i: x / spacing[1] - 0.5, j: y / spacing[0] - 0.5 }), (n) => this.step("k", -n));
    this.coronal = new Pane(panes[1], (x, y) => this.setPlace({ i: x / spacing[1] - 0.5, k: this.sliceAt(y) }), (n) => this.step("j", n));
    this.sagittal = new Pane(panes[2], (x, y) => this.setPlace({ j: x / spacing[0] - 0.5, k: this.sliceAt(y) }), (n) => this.step("i", n));
    const tall = this.edges.at(-1) - this.edges[0];
    this.axial.size = [columns * spacing[1], rows * spacing[0]];
    this.coronal.size = [columns * spacing[1], tall];
    this.sagittal.size = [rows * spacing[0], tall];
    this.letters();
    this.controls();
    new ResizeObserver(() => this.resized()).observe(this.root.querySelector(".panes"));
    this.slices.begin(this.place.k);
    this.draw();
  }

  checked(answer) {
    if (answer.status === 401) window.location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  }

  resized() {
    for (const pane of [this.axial, this.coronal, this.sagittal]) pane.resized();
    this.draw();
  }

  /** The slice on which most organs are. */
  startSlice() {
    const counts = new Array(this.description.slices).fill(0);
    for (const organ of this.organs) for (const k of organ.keys()) counts[k] += 1;
    const most = Math.max(...counts);
    if (most === 0) return Math.floor(counts.length / 2);
    const best = counts.flatMap((count, k) => (count === most ? [k] : []));
    return best[Math.floor(best.length / 2)];
  }

  letters() {
    const [row, column, normal] = this.description.axes;
    const opposite = (direction) => direction.map((value) => -value);
    const up = this.isUpright ? normal : opposite(normal);
    const ends = (across, down) => [opposite(across), across, opposite(down), down].map(sideOf);
    this.axial.letters(ends(row, column));
    this.coronal.letters(ends(row, opposite(up)));
    this.sagittal.letters(ends(column, opposite(up)));
  }

  /** The place in mm from the top of the upright planes, of a height along the normal. */
  fromTop(height) {
    return this.isUpright ? this.edges.at(-1) - height : height - this.edges[0];
  }

  sliceAt(y) {
    const height = this.isUpright ? this.edges.at(-1) - y : this.edges[0] + y;
    const found = this.edges.findIndex((edge) => edge > height) - 1;
    return found < 0 ? (height < this.edges[0] ? 0 : this.description.slices - 1) : found;
  }

  setPlace(change) {
    const most = { k: this.description.slices, j: this.description.rows, i: this.description.columns };
    for (const [axis, value] of Object.entries(change)) {
      this.place[axis] = Math.min(most[axis] - 1, Math.max(0, Math.round(value)));
    }
    this.draw();
  }

  /** Go so many slices towards the head, or along another axis. */
  step(axis, count) {
    const sign = axis === "k" && !this.isUpright ? -1 : 1;
    this.setPlace({ [axis]: this.place[axis] + sign * count });
  }

  onLoaded(k) {
    const { loaded, count } = this.slices;
    this.root.dataset.loaded = String(loaded);
    const bar = this.root.querySelector("progress");
    bar.max = count;
    bar.value = loaded;
    bar.hidden = loaded + this.slices.failed.size >= count;
    if (k === this.place.k) this.draw();
    this.later ??= window.setTimeout(() => {
      this.later = undefined;
      this.seen = this.slices.loaded; // the planes across the slices are not drawn again for each slice
      this.draw();
    }, 250);
  }

  /** Draw at the next frame of the screen. */
  draw() {
    if (this.redraw) return;
    this.redraw = true;
    window.requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.redraw = false;
    const { k, j, i } = this.place;
    const { spacing, rows, columns, heights, slices } = this.description;
    for (const pane of [this.axial, this.coronal, this.sagittal]) pane.fit();
    this.drawAxial(k);
    const { smallRows, smallColumns, step } = this.slices;
    const sj = Math.min(smallRows - 1, Math.floor(j / step));
    const si = Math.min(smallColumns - 1, Math.floor(i / step));
    if (this.coronal.isNew("picture", sj, this.seen, this.window)) {
      this.coronal.drawPicture(this.across("coronal", smallColumns, sj * smallColumns, 1), this.bands());
    }
    if (this.sagittal.isNew("picture", si, this.seen, this.window)) {
      this.sagittal.drawPicture(this.across("sagittal", smallRows, si, smallColumns), this.bands());
    }
    if (this.coronal.isNew("lines", j, this.version)) this.coronal.drawLines(this.crossShapes(1, j, spacing[1]));
    if (this.sagittal.isNew("lines", i, this.version)) this.sagittal.drawLines(this.crossShapes(0, i, spacing[0]));
    const height = this.fromTop(heights[k]);
    const [x, y] = [(i + 0.5) * spacing[1], (j + 0.5) * spacing[0]];
    const crosses = [[this.axial, x, y], [this.coronal, x, height], [this.sagittal, y, height]];
    for (const [pane, ...place] of crosses) {
      if (pane.isNew("cross", this.withCross, ...place)) pane.drawCross(this.withCross ? place : null);
    }
    this.root.querySelector("[data-slice]").textContent = `${k + 1} / ${slices}`;
    this.root.querySelector("[data-height]").textContent = `${heights[k].toFixed(1)} mm`;
    this.root.querySelector("[data-window]").textContent = `${this.window[0]} / ${this.window[1]} HU`;
    const slider = this.root.querySelector("[data-slider]");
    slider.value = String(k);
    slider.setAttribute("aria-valuetext", `${k + 1} / ${slices}`);
  }

  drawAxial(k) {
    const { rows, columns } = this.description;
    const words = this.slices.show(k);
    const isKnown = words !== undefined || this.slices.failed.has(k);
    if (isKnown && this.axial.isNew("picture", k, words !== undefined, this.window)) {
      const image = words ? this.greys.image("axial", words, columns, rows) : null;
      this.axial.drawPicture(image, [{ from: 0, count: rows, top: 0, height: this.axial.size[1] }]);
      if (words) this.root.dataset.drawn = String(k);
    }
    if (this.axial.isNew("lines", k, this.version)) this.axial.drawLines(this.axialShapes(k));
  }

  axialShapes(k) {
    const { spacing } = this.description;
    const shapes = this.visible((organ) => ({ paths: organ.get(k) ?? [], spacing }));
    return this.second && this.withLines ? [...shapes, ...this.second.shapes(this, k, spacing)] : shapes;
  }

  crossShapes(axis, place, spacing) {
    const segments = (outline) =>
      outline.map(([x0, h0, x1, h1]) => [
        (x0 + 0.5) * spacing,
        this.fromTop(h0),
        (x1 + 0.5) * spacing,
        this.fromTop(h1),
      ]);
    const shapes = this.visible((organ) => ({ segments: segments(outlineAcross(organ, axis, place, this.edges)) }));
    if (!this.second || !this.withLines) return shapes;
    const others = this.second.outlines(this, axis, place);
    return [...shapes, ...others.map(({ line, outline }) => ({ ...line, segments: segments(outline) }))];
  }

  visible(shapesOf) {
    if (!this.withLines) return [];
    return this.organs.flatMap((organ, index) => {
      if (!this.shown[index]) return [];
      const [r, g, b] = this.description.organs[index].color;
      const width = index === this.emphasis ? EMPHASIS : LINE;
      return [{ color: `rgb(${r}, ${g}, ${b})`, width, ...shapesOf(organ) }];
    });
  }

  /** The lines are others than before. */
  relined() {
    this.version += 1;
    this.draw();
  }

  /** A plane across the small slices, the row nearest to the head first. */
  across(name, width, start, stride) {
    const { slices } = this.description;
    const { small, smallRows, smallColumns } = this.slices;
    const plane = smallRows * smallColumns;
    const values = new Int16Array(slices * width);
    for (let row = 0; row < slices; row += 1) {
      const k = this.isUpright ? slices - 1 - row : row;
      let from = k * plane + start;
      for (let to = row * width; to < (row + 1) * width; to += 1) {
        values[to] = small[from];
        from += stride;
      }
    }
    return this.greys.image(name, new Uint16Array(values.buffer), width, slices);
  }

  /** Where the slices lie in mm from the top: all at once if they are evenly spaced, else one by one. */
  bands() {
    const { heights, slices } = this.description;
    const gaps = heights.slice(1).map((height, index) => height - heights[index]);
    const isEven = Math.max(...gaps) - Math.min(...gaps) < 0.02 * gaps[0];
    const tall = this.edges.at(-1) - this.edges[0];
    if (isEven) return [{ from: 0, count: slices, top: 0, height: tall }];
    return heights.map((_, row) => {
      const k = this.isUpright ? slices - 1 - row : row;
      const height = this.edges[k + 1] - this.edges[k];
      const top = Math.min(this.fromTop(this.edges[k]), this.fromTop(this.edges[k + 1]));
      return { from: row, count: 1, top, height };
    });
  }

  controls() {
    const { root } = this;
    const slider = root.querySelector("[data-slider]");
    slider.max = String(this.description.slices - 1);
    slider.addEventListener("input", () => this.setPlace({ k: Number(slider.value) }));
    root.querySelectorAll("[data-preset]").forEach((button) => {
      button.addEventListener("click", () => this.setWindow(Number(button.dataset.preset)));
    });
    document.querySelectorAll("[data-jump]").forEach((button) => {
      button.addEventListener("click", () => {
        this.jump(Number(button.dataset.jump));
      });
    });
    document.querySelectorAll("[data-organ]").forEach((box) => {
      const index = Number(box.dataset.organ);
      box.addEventListener("change", () => {
        this.shown[index] = box.checked;
        this.relined();
      });
      const row = box.closest("tr");
      const emphasise = (on) => {
        this.emphasis = on ? index : -1;
        this.relined();
      };
      row.addEventListener("pointerenter", () => emphasise(true));
      row.addEventListener("pointerleave", () => emphasise(false));
    });
    document.querySelectorAll("[data-every]").forEach((button) => {
      button.addEventListener("click", () => {
        const on = button.dataset.every === "on";
        this.show(this.shown.map(() => on));
      });
    });
    root.querySelectorAll("[data-zoom]").forEach((button) => {
      button.addEventListener("click", () => this.zoom(Number(button.dataset.zoom)));
    });
    this.pressed = secondLineControls(this);
    root.querySelector(".panes").addEventListener("keydown", (event) => this.onKey(event));
    root.querySelector(".panes").removeAttribute("aria-busy");
  }

  /** Show a slice, and the viewer itself. */
  jump(k) {
    this.setPlace({ k });
    this.root.querySelector(".panes").scrollIntoView({ block: "nearest" });
  }

  show(shown) {
    this.shown = shown;
    document.querySelectorAll("[data-organ]").forEach((box) => {
      box.checked = shown[Number(box.dataset.organ)];
    });
    this.relined();
  }

  zoom(factor) {
    for (const pane of [this.axial, this.coronal, this.sagittal]) {
      if (factor === 0) pane.reset();
      else pane.zoomBy(factor);
    }
    this.draw();
  }

  setWindow(number) {
    this.window = WINDOWS[number] ?? this.window;
    this.greys.set(...this.window);
    this.root.querySelectorAll("[data-preset]").forEach((button) => {
      button.setAttribute("aria-pressed", String(Number(button.dataset.preset) === number));
    });
    this.draw();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.description.slices - 1;
    const keys = {
      ArrowUp: () => this.step("k", 1),
      ArrowDown: () => this.step("k", -1),
      PageUp: () => this.step("k", 10),
      PageDown: () => this.step("k", -10),
      Home: () => this.setPlace({ k: this.isUpright ? last : 0 }),
      End: () => this.setPlace({ k: this.isUpright ? 0 : last }),
      ArrowLeft: () => this.step("i", -1),
      ArrowRight: () => this.step("i", 1),
      c: () => {
        this.withLines = !this.withLines;
        this.relined();
      },
      x: () => {
        this.withCross = !this.withCross;
        this.draw();
      },
      d: () => {
        this.withDifference = !this.withDifference;
        this.pressed();
      },
      "+": () => this.zoom(1.25),
      "-": () => this.zoom(0.8),
      0: () => this.zoom(0),
    };
    WINDOWS.forEach((_, number) => {
      keys[String(number + 1)] = () => this.setWindow(number);
    });
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  }
}

const root = document.getElementById("viewer");
if (root) {
  const viewer = new Viewer(root);
  root.viewer = viewer;
  viewer.open().catch(() => {
    root.querySelector("[data-problem]").hidden = false;
    root.querySelector(".panes").removeAttribute("aria-busy");
  });
}
