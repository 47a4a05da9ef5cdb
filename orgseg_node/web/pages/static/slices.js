// The pixels of a case: fetched slice by slice, the last ones kept whole, all of them kept small for other planes.

const KEEP_BYTES = 96e6;
const SMALL_SIDE = 256;
const AT_ONCE = 4;

export class Slices {
  constructor(base, description, onLoaded) {
    this.base = base;
    this.rows = description.rows;
    this.columns = description.columns;
    this.count = description.slices;
    this.onLoaded = onLoaded;
    this.whole = new Map();
    this.most = Math.max(8, Math.floor(KEEP_BYTES / (2 * this.rows * this.columns)));
    this.step = Math.max(1, Math.ceil(Math.max(this.rows, this.columns) / SMALL_SIDE));
    this.smallRows = Math.ceil(this.rows / this.step);
    this.smallColumns = Math.ceil(this.columns / this.step);
    this.small = new Int16Array(this.count * this.smallRows * this.smallColumns).fill(-1024);
    this.known = new Uint8Array(this.count);
    this.waiting = [];
    this.fetching = new Set();
    this.failed = new Set();
  }

  /** The pixels of a slice, or undefined; they are then fetched before all others. */
  get(k) {
    const found = this.whole.get(k);
    if (found) {
      this.whole.delete(k); // the last used is the last dropped
      this.whole.set(k, found);
    } else if (!this.fetching.has(k) && !this.failed.has(k)) {
      this.waiting = this.waiting.filter((one) => one !== k);
      this.waiting.unshift(k);
      this.pump();
    }
    return found;
  }

  /** Fetch every slice, beginning around one. */
  fetchAll(around) {
    const every = Array.from({ length: this.count }, (_, k) => k);
    this.waiting = every.sort((a, b) => Math.abs(a - around) - Math.abs(b - around));
    this.pump();
  }

  get loaded() {
    return this.known.reduce((sum, one) => sum + one, 0);
  }

  pump() {
    while (this.fetching.size < AT_ONCE && this.waiting.length) {
      const k = this.waiting.shift();
      if (!this.whole.has(k) && !this.fetching.has(k)) this.fetch(k);
    }
  }

  async fetch(k) {
    this.fetching.add(k);
    try {
      const response = await fetch(`${this.base}/slices/${k}`, { headers: { Accept: "application/octet-stream" } });
      if (!response.ok) throw new Error(String(response.status));
      const pixels = new Int16Array(await response.arrayBuffer());
      if (pixels.length !== this.rows * this.columns) throw new Error("size");
      this.keep(k, pixels);
      this.onLoaded(k);
    } catch {
      this.failed.add(k);
      this.onLoaded(k);
    } finally {
      this.fetching.delete(k);
      this.pump();
    }
  }

  keep(k, pixels) {
    this.whole.set(k, pixels);
    while (this.whole.size > this.most) this.whole.delete(this.whole.keys().next().value);
    if (this.known[k]) return;
    const { step, smallRows, smallColumns, rows, columns } = this;
    let to = k * smallRows * smallColumns;
    for (let j = 0; j < smallRows; j += 1) {
      for (let i = 0; i < smallColumns; i += 1) {
        let sum = 0;
        let count = 0;
        for (let y = j * step; y < Math.min(rows, (j + 1) * step); y += 1) {
          for (let x = i * step; x < Math.min(columns, (i + 1) * step); x += 1) {
            sum += pixels[y * columns + x];
            count += 1;
          }
        }
        this.small[to] = sum / count;
        to += 1;
      }
    }
    this.known[k] = 1;
  }
}
