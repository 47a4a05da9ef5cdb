// Geometry of delivered contours: paths on their own slice, and outlines on planes across the slices.
// Points are (column, row) in pixels of their slice; the centre of a pixel has whole numbers.

const OFF_CENTRE = 1e-4; // a plane through pixel centres would meet vertices that lie exactly on it

/** The contours of each organ by slice: Map of slice -> list of Float32Array(x0, y0, x1, y1, ...). */
export function contoursBySlice(organs, points) {
  let start = 0;
  return organs.map((organ) => {
    const found = new Map();
    organ.slices.forEach((k, index) => {
      const end = start + 2 * organ.counts[index];
      if (!found.has(k)) found.set(k, []);
      found.get(k).push(points.subarray(start, end));
      start = end;
    });
    return found;
  });
}

/** Where closed contours cross a line, sorted: pairs are the parts inside (even-odd, as holes are written). */
export function crossings(contours, axis, place) {
  const at = place + OFF_CENTRE;
  const other = 1 - axis;
  const found = [];
  for (const points of contours) {
    const count = points.length;
    for (let index = 0; index < count; index += 2) {
      const next = (index + 2) % count;
      const a = points[index + axis];
      const b = points[next + axis];
      if (a < at !== b < at) {
        const share = (at - a) / (b - a);
        found.push(points[index + other] + share * (points[next + other] - points[index + other]));
      }
    }
  }
  return found.sort((one, two) => one - two);
}

/** The outline of an organ on a plane across the slices: lines [x, height, x, height]. Each slice is a slab. */
export function outlineAcross(bySlice, axis, place, edges) {
  const lines = [];
  const inside = [];
  for (let k = 0; k + 1 < edges.length; k += 1) {
    inside.push(bySlice.has(k) ? crossings(bySlice.get(k), axis, place) : []);
  }
  inside.forEach((places, k) => {
    for (const x of places) lines.push([x, edges[k], x, edges[k + 1]]);
  });
  for (let k = 0; k <= inside.length; k += 1) {
    const ends = [...(inside[k - 1] ?? []), ...(inside[k] ?? [])].sort((one, two) => one - two);
    for (let index = 0; index + 1 < ends.length; index += 2) {
      if (ends[index + 1] > ends[index]) lines.push([ends[index], edges[k], ends[index + 1], edges[k]]);
    }
  }
  return lines;
}

/** The borders between slices in mm along their normal: one more than there are slices. */
export function slabEdges(heights) {
  const count = heights.length;
  if (count === 1) return [heights[0] - 0.5, heights[0] + 0.5];
  const between = heights.slice(1).map((height, index) => (height + heights[index]) / 2);
  const first = heights[0] - (between[0] - heights[0]);
  const last = heights[count - 1] + (heights[count - 1] - between[count - 2]);
  return [first, ...between, last];
}

/** The letter of the patient's side to which a direction in LPS points. */
export function sideOf(direction) {
  const letters = [["R", "L"], ["A", "P"], ["F", "H"]]; // negative and positive x, y, z
  const sizes = direction.map(Math.abs);
  const axis = sizes.indexOf(Math.max(...sizes));
  return letters[axis][direction[axis] < 0 ? 0 : 1];
}
