// Live changes: the node says that something happened, and the parts of the page that show it are fetched again.

const LEAST_MS = 1500;
let last = 0;
let waiting = 0;

/** Whether a person is writing or deciding in this part of the page: it must not change under the hands. */
function isInUse(element) {
  const active = document.activeElement;
  const isWriting = element.contains(active) && active.matches("input, select, textarea, button, summary");
  return isWriting || element.querySelector("details[open]") !== null;
}

function refresh() {
  window.clearTimeout(waiting);
  const wait = last + LEAST_MS - Date.now();
  if (wait > 0) {
    waiting = window.setTimeout(refresh, wait);
    return;
  }
  last = Date.now();
  for (const element of document.querySelectorAll("[data-live]")) {
    if (isInUse(element)) waiting = window.setTimeout(refresh, 2 * LEAST_MS);
    else window.htmx.trigger(element, "changed");
  }
}

if (document.querySelector("[data-live]")) {
  const lamp = document.getElementById("lamp");
  const source = new EventSource("/live");
  source.addEventListener("open", () => lamp?.setAttribute("data-on", "yes"));
  source.addEventListener("error", () => lamp?.removeAttribute("data-on"));
  source.addEventListener("changed", refresh);
  window.addEventListener("pagehide", () => source.close());
}
