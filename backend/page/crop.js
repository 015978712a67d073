// The crop drawn on the clip. Dragging it sets a keyframe at the playhead; a line shows its way.

import { app, on, tell } from "./app.js";
import { $, drag, s } from "./dom.js";
import { aspectOf, inside } from "./keyframes.js";
import { player } from "./player.js";

const SMALLEST = 32; // pixels of the source
const SAMPLES = 90;

const svg = $("crop");

const tenth = (value) => Math.round(value * 10) / 10;
const milli = (value) => Math.round(value * 1000) / 1000;

/** The index of the keyframe at the stage's time, or -1. */
export function keyframeHere() {
  const near = 0.5 / (app.medium?.facts?.framesPerSecond ?? 30);
  return app.clip.cropKeyframes.findIndex((each) => Math.abs(each.time - app.time) < near);
}

/** Sets the crop at the stage's time: in the keyframe that is there, or in a new one. */
export function setCrop(rect, gesture) {
  const place = keyframeHere();
  const kept = inside(rect, app.size);
  const sides = Object.fromEntries(Object.entries(kept).map(([side, value]) => [side, tenth(value)]));
  app.changeClip((clip) => {
    const keyframes = clip.cropKeyframes;
    if (place >= 0) Object.assign(keyframes[place], sides);
    else keyframes.push({ time: milli(app.time), ...sides });
    keyframes.sort((a, b) => a.time - b.time);
  }, gesture);
  app.pick({ kind: "key", index: keyframeHere() });
}

/** Gives every keyframe of every clip another aspect; its centre and its area stay. */
export function reshape(document, aspect, sizeOf) {
  for (const clip of document.clips) {
    const size = sizeOf(clip);
    for (const each of size ? clip.cropKeyframes : []) {
      const area = each.width * each.height;
      const [width, height] = [Math.sqrt(area * aspect), Math.sqrt(area / aspect)];
      const moved = {
        x: each.x + (each.width - width) / 2, y: each.y + (each.height - height) / 2, width, height,
      };
      for (const [side, value] of Object.entries(inside(moved, size))) each[side] = tenth(value);
    }
  }
}

function draw() {
  if (!app.size) {
    svg.replaceChildren();
    return;
  }
  const { width, height } = app.size;
  const { x, y, width: w, height: h } = app.crop;
  const unit = width / (svg.clientWidth || width);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const third = (n) => `M${x + (w * n) / 3} ${y}v${h}M${x} ${y + (h * n) / 3}h${w}`;
  const corners = [["nw", x, y], ["ne", x + w, y], ["sw", x, y + h], ["se", x + w, y + h]];
  svg.replaceChildren(
    s("path", { class: "dim", d: `M0 0h${width}v${height}H0zM${x} ${y}v${h}h${w}v${-h}z`, "fill-rule": "evenodd" }),
    s("path", { class: "thirds", d: third(1) + third(2) }),
    s("path", { class: "way", d: way() }),
    s("rect", { class: "edge", x, y, width: w, height: h, "data-grip": "body" }),
    ...app.clip.cropKeyframes.map((each, index) => s("circle", {
      class: app.picked?.kind === "key" && app.picked.index === index ? "dot picked" : "dot",
      cx: each.x + each.width / 2, cy: each.y + each.height / 2, r: 5 * unit, "data-key": index,
    })),
    ...corners.map(([grip, cx, cy]) => s("g", { "data-grip": grip, class: `corner ${grip}` },
      s("circle", { class: "reach", cx, cy, r: 18 * unit }),
      s("circle", { class: "knob", cx, cy, r: 6.5 * unit }))),
  );
}

/** The way of the crop's centre from the first keyframe to the last. */
function way() {
  const keyframes = app.clip.cropKeyframes;
  if (keyframes.length < 2) return "";
  const [first, last] = [keyframes[0].time, keyframes.at(-1).time];
  const points = Array.from({ length: SAMPLES + 1 }, (_, n) => {
    const rect = app.movement(first + ((last - first) * n) / SAMPLES);
    return `${rect.x + rect.width / 2} ${rect.y + rect.height / 2}`;
  });
  return `M${points.join("L")}`;
}

function place(event) {
  const box = svg.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * app.size.width,
    y: ((event.clientY - box.top) / box.height) * app.size.height,
  };
}

function press(event) {
  if (!app.size || event.button > 0) return;
  const dot = event.target.closest("[data-key]");
  if (dot) {
    const index = Number(dot.dataset.key);
    player.pause();
    player.seek(app.clip.cropKeyframes[index].time);
    app.pick({ kind: "key", index });
    return;
  }
  const grip = event.target.closest("[data-grip]")?.dataset.grip;
  if (!grip) return;
  player.pause();
  const [from, start] = [place(event), app.crop];
  const moved = (now) => {
    const to = place(now);
    const rect = grip === "body"
      ? { ...start, x: start.x + to.x - from.x, y: start.y + to.y - from.y }
      : resized(start, grip, to);
    setCrop(rect, "crop");
  };
  drag(event, svg, moved, () => app.edit.rest());
}

/** The crop with one corner moved to a place and the opposite one fixed, in the target's aspect. */
function resized(start, grip, to) {
  const aspect = aspectOf(app.document);
  const [left, top] = [grip.includes("w"), grip.includes("n")];
  const [x, y] = [left ? start.x + start.width : start.x, top ? start.y + start.height : start.y];
  const room = {
    width: left ? x : app.size.width - x,
    height: top ? y : app.size.height - y,
  };
  const wanted = Math.max(Math.abs(to.x - x), Math.abs(to.y - y) * aspect, SMALLEST);
  const width = Math.min(wanted, room.width, room.height * aspect);
  const height = width / aspect;
  return { x: left ? x - width : x, y: top ? y - height : y, width, height };
}

export function mountCrop() {
  svg.addEventListener("pointerdown", press);
  $("add-key").onclick = addKeyframe;
  on("edit select time media", draw);
  new ResizeObserver(() => tell("time")).observe(svg);
}

export function addKeyframe() {
  if (app.size) setCrop(app.crop);
}
