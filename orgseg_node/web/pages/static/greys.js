// Grey values of a screen from Hounsfield units, by a table of all 65536 stored words.

export class Greys {
  constructor() {
    this.table = new Uint32Array(65536);
    this.images = new Map();
  }

  /** Take a window: its centre and its width in HU. */
  set(centre, range) {
    const low = centre - range / 2;
    const factor = 255 / range;
    for (let word = 0; word < 65536; word += 1) {
      const hu = word < 32768 ? word : word - 65536;
      const value = Math.max(0, Math.min(255, (hu - low) * factor)) | 0;
      this.table[word] = (0xff000000 | (value << 16) | (value << 8) | value) >>> 0;
    }
  }

  /** The picture of a plane; the next one of the same name takes its place. words: int16 values as Uint16Array. */
  image(name, words, width, height) {
    let image = this.images.get(name);
    if (!image || image.width !== width || image.height !== height) {
      image = new ImageData(width, height);
      this.images.set(name, image);
    }
    const out = new Uint32Array(image.data.buffer);
    const { table } = this;
    for (let index = 0; index < words.length; index += 1) out[index] = table[words[index]];
    return image;
  }
}
