// The numbers of what is selected: the clip's title, a keyframe's crop and ease, a speed.

import { app, on } from "./app.js";
import { MAX_ROTATION_DEG } from "./constants.js";
import { setCrop } from "./crop.js";
import { $, h, icon, redraw } from "./dom.js";
import { aspectOf } from "./keyframes.js";
import { player } from "./player.js";
import { retimedDuration } from "./retime.js";
import { endOf, moveKey, setSpeedEnd } from "./strip.js";
import { clock } from "./timing.js";

const SPEEDS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8];
/** How a crop moves to its next keyframe, in words. */
export const EASES = { spline: "curved", linear: "steady", smooth: "smooth", cut: "cut" };

const panel = $("inspect");

function draw() {
  panel.hidden = !app.clip;
  if (!app.clip) return;
  redraw(panel, clipFields(), pickedFields());
}

function clipFields() {
  const { clip } = app;
  const title = h("input", {
    name: "title", value: clip.title ?? "", placeholder: clip.fileName, maxLength: 200,
    onchange: ({ target }) => app.changeClip((now) => {
      if (target.value.trim()) now.title = target.value.trim();
      else delete now.title;
    }),
  });
  const turn = (degrees) => app.changeClip((now) => {
    now.rotation = Math.min(Math.max(degrees, -MAX_ROTATION_DEG), MAX_ROTATION_DEG);
    if (!now.rotation) delete now.rotation;
  });
  return h("div", { class: "fields" },
    h("label", { class: "grow" }, "Chapter title", title),
    number("rotation", "Turn, °", clip.rotation ?? 0, 0.5, turn),
    h("output", { class: "plays", id: "plays", ariaLabel: "Resulting duration" }, whatPlays(clip)));
}

function whatPlays(clip) {
  if (!app.durationOf(clip)) return "";
  const [start, stop] = app.trim;
  const plays = `plays ${retimedDuration(app.place.pieces).toNumber().toFixed(2)} s of ${(stop - start).toFixed(2)} s`;
  return clip.sourceRange ? `${plays}, from ${clock(app.source.start.toNumber() + start)} of the file on` : plays;
}

function pickedFields() {
  if (!app.size) return h("p", { class: "fine" }, app.medium?.error ?? "");
  if (app.picked?.kind === "key") return keyFields(app.picked.index);
  if (app.picked?.kind === "speed") return speedFields(app.picked.index);
  return h("p", { class: "fine hint" }, "Drag the crop on the picture: each drag sets a keyframe at the playhead, and the crop moves between them.");
}

function number(name, label, value, step, set) {
  return h("label", {}, label, h("input", {
    type: "number", name, value: String(value), step: String(step),
    onchange: ({ target }) => Number.isFinite(target.valueAsNumber) && set(target.valueAsNumber),
  }));
}

function keyFields(index) {
  const key = app.clip.cropKeyframes[index];
  const put = (changes) => {
    player.seek(app.clip.cropKeyframes[index].time);
    setCrop({ ...app.crop, ...changes });
  };
  const ease = h("select", {
    name: "ease",
    onchange: ({ target }) => app.changeClip((clip) => {
      if (target.value) clip.cropKeyframes[index].ease = target.value;
      else delete clip.cropKeyframes[index].ease;
    }),
  }, [["", `like all (${EASES[app.document.ease]})`], ...Object.entries(EASES)]
    .map(([value, text]) => h("option", { value }, text)));
  ease.value = key.ease ?? "";
  return h("div", { class: "fields", role: "group", ariaLabel: "Keyframe" },
    number("key time", "At, s", key.time, 0.01, (time) => {
      moveKey(index, time);
      player.seek(app.clip.cropKeyframes[index].time);
    }),
    number("key x", "Left", key.x, 1, (x) => put({ x })),
    number("key y", "Top", key.y, 1, (y) => put({ y })),
    number("key width", "Width", key.width, 1, (width) => width > 0 && put({ width, height: width / aspectOf(app.document) })),
    h("label", {}, "Way to the next", ease),
    h("button", { class: "quiet", name: "remove key", onclick: removePicked }, icon("trash"), "Remove"));
}

function speedFields(index) {
  const segment = app.clip.segmentsData.segments[index];
  const choices = SPEEDS.includes(segment.speed) ? SPEEDS : [...SPEEDS, segment.speed].sort((a, b) => a - b);
  const speed = h("select", {
    name: "speed",
    onchange: ({ target }) => app.changeClip((clip) => (clip.segmentsData.segments[index].speed = Number(target.value))),
  }, choices.map((each) => h("option", { value: String(each) }, `${each}×`)));
  speed.value = String(segment.speed);
  return h("div", { class: "fields", role: "group", ariaLabel: "Speed" },
    h("label", {}, "Speed", speed),
    number("speed start", "From, s", segment.start, 0.01, (time) => setSpeedEnd(index, "start", time)),
    number("speed end", "To, s", endOf(segment), 0.01, (time) => setSpeedEnd(index, "end", time)),
    h("button", { class: "quiet", name: "remove speed", onclick: removePicked }, icon("trash"), "Remove"));
}

export function removePicked() {
  if (!app.picked) return;
  const { kind, index } = app.picked;
  app.changeClip((clip) => {
    const list = kind === "key" ? clip.cropKeyframes : clip.segmentsData.segments;
    list.splice(index, 1);
  });
  app.pick(null);
}

export function mountInspector() {
  on("edit select media", draw);
}
