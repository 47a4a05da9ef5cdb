// The pixels of a case: fetched in blocks of neighbouring slices, those ahead of the person first. Slices near the
// shown one are kept whole, and all of them small for the other planes.

const KEEP_BYTES = 200e6;
const BLOCK_BYTES = 4e6;
const MOST_IN_BLOCK = 16; // as the node sends
const SMALL_SIDE = 256;
const AT_ONCE = 2;
const AHEAD = 0.5; // slices in the direction of scrolling count as so much nearer

export class Slices {
  constructor(base, description, onLoaded) {
    this.base = base;
    this.rows = description.rows;
    this.columns = description.columns;
    this.count = description.slices;
    this.onLoaded = onLoaded;
    const bytes = 2 * this.rows * this.columns;
    this.size = Math.max(1, Math.min(MOST_IN_BLOCK, Math.floor(BLOCK_BYTES / bytes)));
    this.most = Math.max(4 * this.size, Math.floor(KEEP_BYTES / bytes));
    this.whole = new Map();
    this.step = Math.max(1, Math.ceil(Math.max(this.rows, this.columns) / SMALL_SIDE));
    this.smallRows = Math.ceil(this.rows / this.step);
    this.smallColumns = Math.ceil(this.columns / this.step);
    this.small = new Int16Array(this.count * this.smallRows * this.smallColumns).fill(-1024);
    this.known = new Uint8Array(this.count);
    this.loaded = 0;
    this.failed = new Set();
    this.fetching = new Set(); // numbers of slices on their way
    this.requests = 0;
    this.place = 0;
    this.heading = 0;
    this.isFirst = true;
  }

  /** Begin with a slice, and go on with all others. */
  begin(k) {
    this.place = k;
    this.pump();
  }

  /** The pixels of the slice that is shown now, or undefined; it and those ahead are then fetched first. */
  show(k) {
    if (k !== this.place) {
      this.heading = Math.sign(k - this.place);
      this.place = k;
    }
    this.pump();
    return this.whole.get(k);
  }

  pump() {
    while (this.requests < AT_ONCE) {
      const range = this.next();
      if (!range) return;
      this.fetch(...range);
      if (this.isFirst) return; // the first slice alone: a block would take longer
    }
  }

  /** First slice and count of what is fetched next. */
  next() {
    const { place, count, size } = this;
    if (this.isFirst) return this.fetching.size ? null : [place, 1];
    if (this.lacks(place)) return this.around(place);
    const reach = Math.floor(this.most / 2) - size;
    let best = null;
    let least = Infinity;
    for (let k = 0; k < count; k += 1) {
      const far = Math.abs(k - place);
      const isWanted = this.known[k] ? far <= reach : true;
      if (isWanted && this.lacks(k)) {
        const cost = Math.sign(k - place) === this.heading ? far * AHEAD : far;
        if (cost < least) [best, least] = [k, cost];
      }
    }
    return best === null ? null : this.around(best);
  }

  lacks(k) {
    return !this.whole.has(k) && !this.fetching.has(k) && !this.failed.has(k);
  }

  /** The slices of one block from k on, away from the shown slice, that are lacking. */
  around(k) {
    const toward = k < this.place ? -1 : 1;
    let end = k;
    for (let n = 1; n < this.size && end + toward >= 0 && end + toward < this.count; n += 1) {
      if (!this.lacks(end + toward)) break;
      end += toward;
    }
    return [Math.min(k, end), Math.abs(end - k) + 1];
  }

  async fetch(first, count) {
    const numbers = Array.from({ length: count }, (_, index) => first + index);
    numbers.forEach((k) => this.fetching.add(k));
    this.requests += 1;
    try {
      await this.receive(first, count);
    } catch {
      for (const k of numbers) {
        // one slice that cannot be read does not hide its neighbours
        if (count > 1) await this.receive(k, 1).catch(() => this.failed.add(k));
        else this.failed.add(k);
        this.onLoaded(k);
      }
    } finally {
      numbers.forEach((k) => this.fetching.delete(k));
      this.requests -= 1;
      this.isFirst = false;
      this.pump();
    }
  }

  async receive(first, count) {
    const response = await fetch(`${this.base}/slices/${first}/${count}`, { headers: { Accept: "application/octet-stream" } });
    if (!response.ok) throw new Error(String(response.status));
    const content = await response.arrayBuffer();
    const each = this.rows * this.columns;
    if (content.byteLength !== 2 * each * count) throw new Error("size");
    for (let index = 0; index < count; index += 1) {
      // a copy, so that one slice that is kept does not keep its whole block
      this.keep(first + index, new Uint16Array(content.slice(2 * each * index, 2 * each * (index + 1))));
      this.onLoaded(first + index);
    }
  }

  keep(k, words) {
    this.whole.set(k, words);
    while (this.whole.size > this.most) this.whole.delete(this.farthest());
    if (this.known[k]) return;
    const { step, smallRows, smallColumns, rows, columns } = this;
    const pixels = new Int16Array(words.buffer);
    let to = k * smallRows * smallColumns;
    for (let j = 0; j < smallRows; j += 1) {
      const lastRow = Math.min(rows, (j + 1) * step);
      for (let i = 0; i < smallColumns; i += 1) {
        const lastColumn = Math.min(columns, (i + 1) * step);
        let sum = 0;
        let count = 0;
        for (let y = j * step; y < lastRow; y += 1) {
          for (let x = i * step; x < lastColumn; x += 1) {
            sum += pixels[y * columns + x];
            count += 1;
          }
        }
        this.small[to] = sum / count;
        to += 1;
      }
    }
    this.known[k] = 1;
    this.loaded += 1;
  }

  farthest() {
    let found = -1;
    let most = -1;
    for (const k of this.whole.keys()) {
      const far = Math.abs(k - this.place);
      if (far > most) [found, most] = [k, far];
    }
    return found;
  }
}
