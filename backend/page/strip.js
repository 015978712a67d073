// One clip over its own time: filmstrip, waveform, trim, speeds, keyframes, playhead.

import { app, on } from "./app.js";
import { $, drag, h, redraw } from "./dom.js";
import { player } from "./player.js";
import { clock } from "./timing.js";

const SHORTEST = 0.05; // seconds of source that a trim range and a speed segment keep

const strip = $("strip");
const film = h("canvas", { class: "film", ariaHidden: "true" });
const marks = h("div", { class: "marks" });
const playhead = h("div", { class: "playhead", ariaHidden: "true" });

let drawn = null;

const milli = (value) => Math.round(value * 1000) / 1000;
const duration = () => app.durationOf(app.clip);
const percent = (time) => `${(time / duration()) * 100}%`;

/** Where a speed segment ends; one without an end lasts to the end of the clip's source. */
export const endOf = (segment) => segment.end ?? duration();

export function setTrim(side, time, gesture) {
  const [start, stop] = app.trim;
  const moved = side === "start"
    ? Math.min(Math.max(0, time), stop - SHORTEST)
    : Math.max(Math.min(duration(), time), start + SHORTEST);
  app.changeClip((clip) => {
    const range = { start, end: stop, [side]: milli(moved) };
    if (range.start <= 0 && range.end >= duration() - 0.0005) delete clip.segmentsData.trimRange;
    else clip.segmentsData.trimRange = { start: milli(range.start), end: milli(Math.min(range.end, duration())) };
  }, gesture);
}

/** Adds half speed from the playhead on, at most to the next segment. */
export function addSpeed() {
  if (!app.medium?.facts) return;
  const [, stop] = app.trim;
  const segments = app.clip.segmentsData.segments;
  const inside = segments.findIndex((each) => each.start <= app.time && app.time < endOf(each));
  if (inside >= 0) {
    app.pick({ kind: "speed", index: inside });
    return;
  }
  const room = Math.min(stop, ...segments.filter((each) => each.start > app.time).map((each) => each.start));
  const start = Math.min(app.time, room - SHORTEST);
  const wanted = Math.max(SHORTEST * 4, Math.min(2, duration() / 4));
  const added = { start: milli(Math.max(0, start)), end: milli(Math.min(room, start + wanted)), speed: 0.5 };
  app.changeClip((clip) => {
    clip.segmentsData.segments.push(added);
    clip.segmentsData.segments.sort((a, b) => a.start - b.start);
  });
  const index = app.clip.segmentsData.segments.findIndex((each) => each.start === added.start);
  app.pick({ kind: "speed", index });
}

/** Moves one end of a speed segment, but not past its neighbours. */
export function setSpeedEnd(index, side, time, gesture) {
  app.changeClip((clip) => {
    const segments = clip.segmentsData.segments;
    const each = segments[index];
    const [before, after] = [segments[index - 1]?.end ?? 0, segments[index + 1]?.start ?? duration()];
    each[side] = milli(side === "start"
      ? Math.min(Math.max(before, time), endOf(each) - SHORTEST)
      : Math.max(Math.min(after, time), each.start + SHORTEST));
  }, gesture);
}

function timeAt(event) {
  const box = strip.getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * duration();
}

function drawFilm() {
  const { strip: layout, image, peaks } = app.medium ?? {};
  const [width, height] = [strip.clientWidth, strip.clientHeight];
  drawn = app.onStage;
  const density = devicePixelRatio || 1;
  Object.assign(film, { width: width * density, height: height * density });
  const context = film.getContext("2d");
  context.scale(density, density);
  if (!layout || !image?.complete || !width) return;
  const wave = peaks ? 22 : 0;
  const down = height - wave;
  const across = (down / layout.height) * layout.width;
  const share = (x) => app.shareOfFile(app.clip, (x / width) * duration());
  for (let x = 0; x < width; x += across) {
    const place = Math.min(layout.count - 1, Math.floor(share(x + across / 2) * layout.count));
    context.drawImage(image, place * layout.width, 0, layout.width, layout.height, x, 0, across, down);
  }
  if (!peaks) return;
  context.fillStyle = getComputedStyle(strip).color;
  for (let x = 0; x < width; x += 2) {
    const tall = Math.max(1, Math.sqrt(peaks[Math.min(peaks.length - 1, Math.floor(share(x) * peaks.length))]) * (wave - 4));
    context.fillRect(x, height - wave / 2 - tall / 2, 1.2, tall);
  }
}

function drawMarks() {
  strip.hidden = !app.medium?.facts;
  if (strip.hidden) return;
  const [start, stop] = app.trim;
  const picked = (kind, index) => app.picked?.kind === kind && app.picked.index === index;
  redraw(
    marks,
    stretch("shade", 0, start),
    stretch("shade", stop, duration()),
    stretch("kept", start, stop),
    app.clip.segmentsData.segments.map((each, index) => speed(each, index, picked("speed", index))),
    app.clip.cropKeyframes.map((each, index) => h("button", {
      class: picked("key", index) ? "key picked" : "key",
      data: { name: `key ${index}`, key: index },
      ariaLabel: `Keyframe at ${clock(each.time)}`,
      ariaPressed: String(picked("key", index)),
    })),
    handle("start", start, "Start of the clip"),
    handle("end", stop, "End of the clip"),
  );
  app.clip.cropKeyframes.forEach((each, index) => at(marks.querySelector(`[data-key="${index}"]`), each.time));
}

const at = (element, time) => element.style.setProperty("left", percent(time));

function stretch(name, from, to) {
  const element = h("div", { class: name });
  at(element, from);
  element.style.right = `calc(100% - ${percent(to)})`;
  return element;
}

function speed(each, index, isPicked) {
  const element = h("div", { class: `speed ${each.speed < 1 ? "slow" : "fast"} ${isPicked ? "picked" : ""}`, data: { speed: index } },
    h("button", { data: { name: `speed ${index}` }, ariaLabel: `${each.speed} times speed from ${clock(each.start)} to ${clock(endOf(each))}`, ariaPressed: String(isPicked) }, `${each.speed}×`),
    h("span", { class: "end start", data: { side: "start" } }),
    h("span", { class: "end stop", data: { side: "end" } }));
  at(element, each.start);
  element.style.right = `calc(100% - ${percent(endOf(each))})`;
  return element;
}

function handle(side, time, name) {
  const element = h("div", {
    class: `trim ${side}`, role: "slider", tabIndex: 0, data: { name: `trim ${side}`, trim: side },
    ariaLabel: name, ariaValueMin: "0", ariaValueMax: String(duration()), ariaValueNow: String(time),
    ariaValueText: clock(time),
  });
  at(element, time);
  return element;
}

function press(event) {
  if (!app.medium?.facts || event.button > 0) return;
  player.pause();
  const rest = () => app.edit.rest();
  const { target } = event;
  const trim = target.closest("[data-trim]")?.dataset.trim;
  const key = target.closest("[data-key]")?.dataset.key;
  const speedIndex = target.closest("[data-speed]")?.dataset.speed;
  if (trim) {
    drag(event, strip, (now) => {
      setTrim(trim, timeAt(now), "trim");
      player.seek(timeAt(now));
    }, rest);
  } else if (key !== undefined) {
    pressKey(event, Number(key));
  } else if (speedIndex !== undefined) {
    const side = target.dataset.side;
    app.pick({ kind: "speed", index: Number(speedIndex) });
    if (side) drag(event, strip, (now) => setSpeedEnd(Number(speedIndex), side, timeAt(now), "speed"), rest);
    else seekAlong(event);
  } else {
    seekAlong(event);
  }
}

function seekAlong(event) {
  player.seek(timeAt(event));
  drag(event, strip, (now) => player.seek(timeAt(now)));
}

function pressKey(event, index) {
  const from = event.clientX;
  let moving = false;
  app.pick({ kind: "key", index });
  player.seek(app.clip.cropKeyframes[index].time);
  drag(event, strip, (now) => {
    moving ||= Math.abs(now.clientX - from) > 3;
    if (!moving) return;
    moveKey(app.picked.index, timeAt(now), "key");
    player.seek(app.clip.cropKeyframes[app.picked.index].time);
  }, () => app.edit.rest());
}

/** Moves a keyframe in time, between its neighbours. */
export function moveKey(index, time, gesture) {
  app.changeClip((clip) => {
    const keyframes = clip.cropKeyframes;
    const low = (keyframes[index - 1]?.time ?? -0.001) + 0.001;
    const high = (keyframes[index + 1]?.time ?? duration()) - 0.001;
    keyframes[index].time = milli(Math.min(Math.max(low, time), high));
  }, gesture);
}

function nudge(event) {
  const side = event.target.dataset?.trim;
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!side || !way) return;
  event.preventDefault();
  event.stopPropagation();
  const [start, stop] = app.trim;
  const frame = (event.shiftKey ? 10 : 1) / (app.medium.facts.framesPerSecond || 30);
  setTrim(side, (side === "start" ? start : stop) + way * frame);
}

function drawPlayhead() {
  if (app.medium?.facts) at(playhead, app.time);
}

export function mountStrip() {
  strip.append(film, marks, playhead);
  strip.addEventListener("pointerdown", press);
  strip.addEventListener("keydown", nudge);
  // clicks of the keyboard only: `press` handles those of a pointer
  strip.addEventListener("click", ({ target, detail }) => {
    if (detail > 0) return;
    const { key } = target.dataset;
    const speedIndex = target.closest("[data-speed]")?.dataset.speed;
    if (key !== undefined) {
      player.seek(app.clip.cropKeyframes[Number(key)].time);
      app.pick({ kind: "key", index: Number(key) });
    } else if (speedIndex !== undefined) app.pick({ kind: "speed", index: Number(speedIndex) });
  });
  $("trim-in").onclick = () => app.medium?.facts && setTrim("start", app.time);
  $("trim-out").onclick = () => app.medium?.facts && setTrim("end", app.time);
  $("add-speed").onclick = addSpeed;
  on("edit select media", drawMarks);
  on("edit select media time", drawPlayhead);
  on("select media", drawFilm);
  on("edit", () => drawn === app.onStage || drawFilm());
  new ResizeObserver(drawFilm).observe(strip);
}
