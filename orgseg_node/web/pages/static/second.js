// A dashed second line beside what was delivered, and where the two differ: a structure set that came back, or
// what another protocol would do.

import { contoursBySlice, outlineAcross } from "./geometry.js";

const DASH = [5, 3];
const WIDTH = 1.5;
const PLAIN = "rgb(255, 255, 255)"; // of an ROI that stands for no delivered organ
const DIFFERENCE = "rgba(255, 86, 77, 0.42)"; // what only one of the two encloses

export class SecondLine {
  /** Fetch a second line. */
  static async open(address) {
    const [description, points] = await Promise.all([
      fetch(address).then((answer) => SecondLine.checked(answer).json()),
      fetch(`${address}/points`).then((answer) => SecondLine.checked(answer).arrayBuffer()),
    ]);
    return new SecondLine(description.organs, new Float32Array(points));
  }

  static checked(answer) {
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  }

  constructor(organs, points) {
    this.organs = organs;
    this.bySlice = contoursBySlice(organs, points);
  }

  /** The ROIs that are drawn: those of shown organs, and those that stand for none. */
  visible(viewer) {
    return this.organs.flatMap(({ drawn, color: own }, index) => {
      if (drawn !== null && !viewer.shown[drawn]) return [];
      const rgb = drawn === null ? own : viewer.description.organs[drawn].color;
      const color = rgb ? `rgb(${rgb.join(", ")})` : PLAIN;
      return [{ drawn, bySlice: this.bySlice[index], line: { color, width: WIDTH, dash: DASH } }];
    });
  }

  /** Areas of difference and dashed lines on a slice; the areas lie below all lines. */
  shapes(viewer, k, spacing) {
    const found = [];
    for (const { drawn, bySlice, line } of this.visible(viewer)) {
      const paths = bySlice.get(k) ?? [];
      if (viewer.withDifference && drawn !== null) {
        const both = [...paths, ...(viewer.organs[drawn].get(k) ?? [])];
        found.unshift({ fill: DIFFERENCE, paths: both, spacing });
      }
      found.push({ ...line, paths, spacing });
    }
    return found;
  }

  /** Dashed outlines on a plane across the slices, as lines of slice pixels and heights. */
  outlines(viewer, axis, place) {
    return this.visible(viewer).map(({ bySlice, line }) => ({
      line,
      outline: outlineAcross(bySlice, axis, place, viewer.edges),
    }));
  }

  /** Write the slices that differ most into the table, as buttons that jump there. */
  list(section, jump) {
    for (const { roi, worst } of this.organs) {
      const cell = [...section.querySelectorAll("[data-worst]")].find((one) => one.dataset.worst === roi);
      cell?.replaceChildren(
        ...worst.map(([k, area]) => {
          const button = document.createElement("button");
          button.type = "button";
          button.className = "link";
          button.textContent = `${k + 1} (${Math.round(area)})`;
          button.addEventListener("click", () => jump(k));
          return button;
        }),
      );
    }
  }
}

/** Let the buttons of the page show and hide second lines; one at a time. */
export function secondLineControls(viewer) {
  const buttons = [...document.querySelectorAll("[data-second]")];
  const difference = viewer.root.querySelector("[data-difference]");
  const press = () => {
    buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.second === viewer.secondNumber)));
    difference.hidden = !viewer.second;
    difference.setAttribute("aria-pressed", String(viewer.withDifference));
    viewer.relined();
  };
  difference.addEventListener("click", () => {
    viewer.withDifference = !viewer.withDifference;
    press();
  });
  buttons.forEach((button) => {
    button.addEventListener("click", async () => {
      const number = button.dataset.second;
      if (viewer.secondNumber === number) {
        viewer.second = null;
        viewer.secondNumber = "";
      } else {
        const section = button.closest("section");
        const problem = section.querySelector("[data-second-problem]");
        try {
          viewer.second = await SecondLine.open(button.dataset.secondAt ?? `${viewer.base}/second/${number}`);
          viewer.secondNumber = number;
          problem.hidden = true;
          viewer.second.list(section, (k) => viewer.jump(k));
          viewer.root.dataset.second = number;
        } catch {
          problem.hidden = false;
        }
      }
      press();
    });
  });
  document.querySelector("[data-second-open]")?.click();
  return press;
}
