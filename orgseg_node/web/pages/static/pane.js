// One plane of a case: the picture, and the delivered contours as lines on a canvas of their own above it.

export class Pane {
  constructor(element, onPlace, onStep) {
    this.element = element;
    [this.picture, this.lines, this.cross] = element.querySelectorAll("canvas");
    this.buffer = document.createElement("canvas");
    this.zoom = 1;
    this.pan = [0, 0];
    this.size = [1, 1]; // of the plane in mm
    this.box = null;
    this.drawn = {};
    this.onPlace = onPlace;
    this.onStep = onStep;
    this.listen();
  }

  /** Set the canvases to the pixels of the screen; the scale in pixels per mm and the place of the first corner. */
  fit() {
    this.box ??= this.element.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.box.width * ratio));
    const height = Math.max(1, Math.round(this.box.height * ratio));
    for (const canvas of [this.picture, this.lines, this.cross]) {
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
        this.drawn = {};
      }
    }
    this.ratio = ratio;
    this.scale = Math.min(width / this.size[0], height / this.size[1]) * this.zoom;
    this.left = (width - this.size[0] * this.scale) / 2 + this.pan[0] * ratio;
    this.top = (height - this.size[1] * this.scale) / 2 + this.pan[1] * ratio;
    this.view = `${this.scale} ${this.left} ${this.top}`;
  }

  /** The pane has another size on the screen. */
  resized() {
    this.box = null;
  }

  toScreen(x, y) {
    return [this.left + x * this.scale, this.top + y * this.scale];
  }

  /** Whether a layer has to be drawn: what it shows, or the part of the plane on the screen, is not as it was. */
  isNew(layer, ...content) {
    const key = `${this.view} ${content.join(" ")}`;
    if (this.drawn[layer] === key) return false;
    this.drawn[layer] = key;
    return true;
  }

  /** Draw a plane of grey values: image is ImageData, bands their places in mm. */
  drawPicture(image, bands) {
    const context = this.picture.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.picture.width, this.picture.height);
    if (!image) return;
    const { buffer, scale } = this;
    if (buffer.width !== image.width || buffer.height !== image.height) {
      buffer.width = image.width;
      buffer.height = image.height;
    }
    buffer.getContext("2d", { alpha: false }).putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "medium";
    for (const { from, count, top, height } of bands) {
      const [x, y] = this.toScreen(0, top);
      context.drawImage(buffer, 0, from, image.width, count, x, y, this.size[0] * scale, height * scale);
    }
  }

  /** Draw closed paths in pixels of the slice and single lines in mm, each list with its colour; or fill paths. */
  drawLines(shapes) {
    const context = this.lines.getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, this.lines.width, this.lines.height);
    context.lineJoin = "round";
    const { left, top, scale } = this;
    for (const { color, width, dash, fill, paths, segments, spacing } of shapes) {
      context.strokeStyle = color;
      context.lineWidth = width * this.ratio;
      context.setLineDash((dash ?? []).map((length) => length * this.ratio));
      context.beginPath();
      for (const path of paths ?? []) {
        const [across, down] = [spacing[1] * scale, spacing[0] * scale];
        for (let index = 0; index < path.length; index += 2) {
          const x = left + (path[index] + 0.5) * across;
          const y = top + (path[index + 1] + 0.5) * down;
          if (index === 0) context.moveTo(x, y);
          else context.lineTo(x, y);
        }
        context.closePath();
      }
      for (const [x0, y0, x1, y1] of segments ?? []) {
        context.moveTo(left + x0 * scale, top + y0 * scale);
        context.lineTo(left + x1 * scale, top + y1 * scale);
      }
      if (fill) {
        context.fillStyle = fill;
        context.fill("evenodd");
      } else {
        context.stroke();
      }
    }
  }

  /** Draw the cross of the other planes at a place in mm; none without a place. */
  drawCross(place) {
    const context = this.cross.getContext("2d");
    const { width, height } = this.cross;
    context.clearRect(0, 0, width, height);
    if (!place) return;
    const [x, y] = this.toScreen(...place);
    context.strokeStyle = "rgba(140, 200, 220, 0.45)";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height);
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
  }

  /** Write the letters of the patient's sides: left, right, top, bottom. */
  letters(sides) {
    this.element.querySelectorAll(".side").forEach((label, index) => {
      label.textContent = sides[index];
    });
  }

  zoomBy(factor, at) {
    const before = this.zoom;
    this.zoom = Math.min(12, Math.max(1, this.zoom * factor));
    const box = this.element.getBoundingClientRect();
    const [x, y] = at ?? [box.width / 2, box.height / 2];
    const change = this.zoom / before;
    const middle = [x - box.width / 2, y - box.height / 2];
    this.pan = this.pan.map((value, axis) => middle[axis] - (middle[axis] - value) * change);
    if (this.zoom === 1) this.pan = [0, 0];
  }

  reset() {
    this.zoom = 1;
    this.pan = [0, 0];
  }

  listen() {
    const { element } = this;
    let moved = 0;
    element.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const box = element.getBoundingClientRect();
        if (event.ctrlKey) {
          this.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, [event.clientX - box.left, event.clientY - box.top]);
          this.onStep(0);
        } else {
          moved += event.deltaY;
          const steps = Math.trunc(moved / 50) || Math.sign(moved) * (event.deltaMode === 1 ? 1 : 0);
          if (steps) {
            moved = 0;
            this.onStep(steps);
          }
        }
      },
      { passive: false },
    );
    // a drag moves the picture or the cross; no drag changes a contour
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      this.last = [event.clientX, event.clientY];
      if (this.zoom === 1) this.place(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (!this.last) return;
      if (this.zoom > 1) {
        this.pan[0] += event.clientX - this.last[0];
        this.pan[1] += event.clientY - this.last[1];
        this.onStep(0);
      } else {
        this.place(event);
      }
      this.last = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, () => {
        this.last = null;
      });
    }
    element.addEventListener("dblclick", (event) => this.place(event));
  }

  place(event) {
    const box = this.element.getBoundingClientRect();
    const x = ((event.clientX - box.left) * this.ratio - this.left) / this.scale;
    const y = ((event.clientY - box.top) * this.ratio - this.top) / this.scale;
    this.onPlace(x, y);
  }
}
