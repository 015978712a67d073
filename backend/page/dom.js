// Finds and creates elements. Knows nothing of their meaning.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `onclick`, `ariaLabel`, plain attributes) and children. */
export function h(name, props = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
export function s(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const icon = (name) => s("svg", { "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));

/** Follows a pointer from press to release. The element must survive redrawing. */
export function drag(event, element, moved, ended = () => {}) {
  event.preventDefault();
  element.setPointerCapture(event.pointerId);
  const stop = () => {
    for (const [name, listener] of listeners) element.removeEventListener(name, listener);
    ended();
  };
  const listeners = [["pointermove", moved], ["pointerup", stop], ["pointercancel", stop]];
  for (const [name, listener] of listeners) element.addEventListener(name, listener);
}

/** Redraws an element's content. The focused element in it keeps the focus, found by its `name`. */
export function redraw(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const name = focused?.name || focused?.dataset?.name;
  element.replaceChildren(...children.flat().filter((child) => child != null));
  if (!name) return;
  const again = [...element.querySelectorAll("[name], [data-name]")]
    .find((each) => (each.name || each.dataset.name) === name);
  again?.focus({ preventScroll: true });
}

let fading;

/** Shows one line at the bottom of the window, for some seconds. */
export function toast(text) {
  const line = $("toast");
  line.textContent = text;
  line.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (line.hidden = true), 6000);
}
