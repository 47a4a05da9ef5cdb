// One plane of a case: the picture, and the delivered contours as lines on a canvas of their own above it.

export class Pane {
  constructor(element, onPlace, onStep) {
    this.element = element;
    [this.picture, this.lines] = element.querySelectorAll("canvas");
    this.buffer = document.createElement("canvas");
    this.zoom = 1;
    this.pan = [0, 0];
    this.size = [1, 1]; // of the plane in mm
    this.onPlace = onPlace;
    this.onStep = onStep;
    this.listen();
  }

  /** Set the canvases to the pixels of the screen; the scale in pixels per mm and the place of the first corner. */
  fit() {
    const box = this.element.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(box.width * ratio));
    const height = Math.max(1, Math.round(box.height * ratio));
    for (const canvas of [this.picture, this.lines]) {
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
      }
    }
    this.ratio = ratio;
    this.scale = Math.min(width / this.size[0], height / this.size[1]) * this.zoom;
    this.left = (width - this.size[0] * this.scale) / 2 + this.pan[0] * ratio;
    this.top = (height - this.size[1] * this.scale) / 2 + this.pan[1] * ratio;
  }

  toScreen(x, y) {
    return [this.left + x * this.scale, this.top + y * this.scale];
  }

  /** Draw a plane of grey values: image is ImageData, box its place in mm. */
  drawPicture(image, bands) {
    const context = this.picture.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.picture.width, this.picture.height);
    if (!image) return;
    this.buffer.width = image.width;
    this.buffer.height = image.height;
    this.buffer.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    for (const { from, count, top, height } of bands) {
      const [x, y] = this.toScreen(0, top);
      const { scale } = this;
      context.drawImage(this.buffer, 0, from, image.width, count, x, y, this.size[0] * scale, height * scale);
    }
  }

  /** Draw closed paths and single lines, each list with its colour; then the cross of the other planes. */
  drawLines(shapes, cross) {
    const context = this.lines.getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, this.lines.width, this.lines.height);
    if (cross) {
      const [x, y] = this.toScreen(...cross);
      context.strokeStyle = "rgba(140, 200, 220, 0.45)";
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, this.lines.height);
      context.moveTo(0, y);
      context.lineTo(this.lines.width, y);
      context.stroke();
    }
    context.lineWidth = 1.5 * this.ratio;
    context.lineJoin = "round";
    for (const { color, width, paths, segments } of shapes) {
      context.strokeStyle = color;
      context.lineWidth = width * this.ratio;
      context.beginPath();
      for (const path of paths ?? []) {
        for (let index = 0; index < path.length; index += 2) {
          const [x, y] = this.toScreen(path[index], path[index + 1]);
          if (index === 0) context.moveTo(x, y);
          else context.lineTo(x, y);
        }
        context.closePath();
      }
      for (const [x0, y0, x1, y1] of segments ?? []) {
        context.moveTo(...this.toScreen(x0, y0));
        context.lineTo(...this.toScreen(x1, y1));
      }
      context.stroke();
    }
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
