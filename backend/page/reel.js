// The clips in their order, and how each gives way to the next.

import { app, on } from "./app.js";
import { MAX_TRANSITION_S } from "./constants.js";
import { $, drag, h, icon, redraw } from "./dom.js";
import { openLibrary } from "./library.js";

const TYPES = { cut: "Cut", dissolve: "Dissolve", fade: "Fade" };

const list = $("clips");

function draw() {
  const { clips, transition } = app.document;
  $("reel").hidden = !clips.length;
  $("desk").hidden = !clips.length;
  $("welcome").hidden = clips.length > 0;
  const plan = app.isKnown ? app.plan : null;
  $("sum").textContent = plan
    ? `${clips.length === 1 ? "1 clip" : `${clips.length} clips`} · ${plan.seconds.toFixed(2)} s · ${plan.frames} frames`
    : "";
  redraw(list, clips.map((clip, index) => [
    card(clip, index, plan),
    index < transition.length ? join(transition[index], index) : null,
  ]).flat(), h("li", { class: "add" }, h("button", { class: "quiet", onclick: openLibrary, data: { name: "add" } }, icon("plus"), "Add clip")));
  list.querySelectorAll("canvas").forEach((canvas, index) => paint(canvas, clips[index]));
}

function card(clip, index, plan) {
  const medium = app.media.get(clip.fileName);
  const title = clip.title || clip.fileName;
  const state = medium?.error ?? uploading(medium) ?? (plan ? `${(plan.clips[index].frames / plan.fps).toFixed(2)} s` : "reading …");
  return h("li", { class: `card ${index === app.index ? "current" : ""} ${medium?.error ? "broken" : ""}`, data: { place: index } },
    h("button", {
      class: "face", data: { name: `clip ${index}` }, ariaLabel: `${title}, clip ${index + 1}`,
      ariaCurrent: index === app.index ? "true" : "false", onclick: () => app.select(index),
    }, h("canvas", { width: 240, height: 135, ariaHidden: "true" }),
    medium?.share < 1 ? h("progress", { max: 1, value: medium.share, ariaLabel: `Upload of ${title}` }) : null),
    h("div", { class: "caption" }, h("strong", {}, title), h("span", {}, state)),
    h("div", { class: "moves" },
      mini("left", `Move ${title} earlier`, index > 0, () => move(index, index - 1)),
      mini("right", `Move ${title} later`, index < app.document.clips.length - 1, () => move(index, index + 1)),
      mini("trash", `Remove ${title}`, true, () => remove(index))));
}

const uploading = (medium) =>
  medium?.share < 1 ? `uploading ${Math.round(medium.share * 100)} %` : null;

const mini = (name, label, enabled, onclick) =>
  h("button", { class: "mini", ariaLabel: label, title: label, disabled: !enabled, onclick, data: { name: label } }, icon(name));

function join(transition, index) {
  const type = h("select", {
    name: `join ${index}`, ariaLabel: `Transition ${index + 1}`,
    onchange: ({ target }) => app.change((document) => (document.transition[index].type = target.value)),
  }, Object.entries(TYPES).map(([value, text]) => h("option", { value }, text)));
  type.value = transition.type;
  const length = h("input", {
    type: "number", name: `join length ${index}`, min: "0", max: String(MAX_TRANSITION_S), step: "0.1", value: String(transition.duration),
    ariaLabel: `Length of transition ${index + 1}, seconds`, hidden: transition.type === "cut",
    onchange: ({ target }) => app.change((document) => {
      if (target.valueAsNumber >= 0) {
        document.transition[index].duration = Math.min(target.valueAsNumber, MAX_TRANSITION_S);
      }
    }),
  });
  return h("li", { class: `join ${transition.type}` }, type, length);
}

/** Draws the picture of the filmstrip at which the clip starts. */
function paint(canvas, clip) {
  const { strip, image } = app.media.get(clip.fileName) ?? {};
  if (!strip || !image?.complete) return;
  const start = app.shareOfFile(clip, clip.segmentsData.trimRange?.start ?? 0);
  const place = Math.min(strip.count - 1, Math.floor(start * strip.count) + 1);
  const scale = Math.max(canvas.width / strip.width, canvas.height / strip.height);
  const [across, down] = [canvas.width / scale, canvas.height / scale];
  canvas.getContext("2d").drawImage(
    image, place * strip.width + (strip.width - across) / 2, (strip.height - down) / 2, across, down,
    0, 0, canvas.width, canvas.height);
}

export function move(from, to, gesture = null) {
  if (to < 0 || to >= app.document.clips.length || from === to) return;
  app.index = to;
  app.change((document) => document.clips.splice(to, 0, ...document.clips.splice(from, 1)), gesture);
  app.select(to);
}

function remove(index) {
  app.change((document) => document.clips.splice(index, 1));
  app.select(Math.min(app.index, app.document.clips.length - 1));
}

/** Drags a card: over another one it takes its place. */
function press(event) {
  const face = event.target.closest(".face");
  if (!face || event.button > 0) return;
  let place = Number(face.closest("[data-place]").dataset.place);
  const from = event.clientX;
  let moving = false;
  const moved = (now) => {
    moving ||= Math.abs(now.clientX - from) > 8;
    if (!moving) return;
    list.classList.add("dragging");
    const over = [...list.querySelectorAll(".card")].find((card) => {
      const box = card.getBoundingClientRect();
      return now.clientX > box.left && now.clientX < box.right;
    });
    const target = over ? Number(over.dataset.place) : place;
    if (target === place) return;
    move(place, target, "order");
    place = target;
  };
  const ended = () => {
    list.classList.remove("dragging");
    app.edit.rest();
    if (!moving) app.select(place);
  };
  if (event.pointerType === "touch") return; // touch scrolls; there are buttons
  drag(event, list, moved, ended);
}

export function mountReel() {
  on("edit select media", draw);
  list.addEventListener("pointerdown", press);
  draw();
}
