// Reads the edit document in every way it is written, as the engine's `timeline/document_schema.py`,
// and gives it back in one: the page's. Null means the same as an absent key.

import {
  APP_EASE, ASPECT_RATIOS, DEFAULT_FPS, DEFAULT_SIZE, DEFAULT_TRANSITION_S, EASES, FITS,
  KEY_INTERVALS_S, KEYFRAME_FPS, MAX_CLIPS, MAX_ROTATION_DEG, MAX_TRANSITION_S, SOURCE_SIDES_PX, TARGET_SIDES_PX,
  TRANSITION_TYPES,
} from "./constants.js";
import { Fraction, ONE, ZERO } from "./fraction.js";
import { exactRate, exactSeconds, exactSpeed } from "./timing.js";
import {
  flag, inOrder, list, needed, noOthers, number, object, path, read, refuse, seconds, side, text,
  wholeNumber, within, word,
} from "./validation.js";

/** The transition where none is named. Its length counts once it is no cut any more. */
export const CUT = { type: "cut", duration: Fraction.parse(DEFAULT_TRANSITION_S).toNumber() };

const ROTATIONS = [-MAX_ROTATION_DEG, MAX_ROTATION_DEG].map(Fraction.of);
const KEY_INTERVALS = KEY_INTERVALS_S.map(Fraction.parse);
const ONE_FRAME = ONE.over(Fraction.of(KEYFRAME_FPS));

/**
 * A document in the page's spelling. A crop moves along the app's curve where the document names no
 * ease, as the server has it. Unknown keys of the edit and of its clips are kept: the server tells
 * of them. `warn` is told what is left out. Throws an Error for what the engine refuses; only an
 * edit without clips is one here.
 */
export function normalised(given, warn = () => {}) {
  const {
    clips, transition, targetFps = DEFAULT_FPS, targetWidth, targetHeight, globalAspectRatio, fit,
    includeAudio = true, ease = APP_EASE, keyInterval, ...others
  } = object("edit", given);
  if (list("clips", needed("clips", clips)).length > MAX_CLIPS) {
    refuse("clips", `must be at most ${MAX_CLIPS}, not ${clips.length}`);
  }
  read("targetFps", exactRate, targetFps);
  const [width, height] = targetSize(targetWidth, targetHeight, globalAspectRatio);
  const readClips = clips.map((clip, index) => clipAt(`clips[${index}]`, clip, warn));
  return present({
    ...others,
    clips: inPlayOrder(clips, readClips),
    transition: transitions(transition, Math.max(0, clips.length - 1)),
    targetFps,
    targetWidth: width,
    targetHeight: height,
    fit: optional(fit, (value) => word("fit", FITS, value)),
    includeAudio: flag("includeAudio", includeAudio),
    ease: word("ease", EASES, ease),
    keyInterval: optional(keyInterval, (value) => within("keyInterval", value, KEY_INTERVALS, exactSeconds)),
  });
}

const optional = (value, check) => (value === undefined ? undefined : check(value));

const present = (keys) =>
  Object.fromEntries(Object.entries(keys).filter(([, value]) => value !== undefined));

function targetSize(width, height, ratio) {
  const named = optional(ratio, (value) => ASPECT_RATIOS[word("globalAspectRatio", Object.keys(ASPECT_RATIOS), value)]);
  const written = bothSides("target", width, height, TARGET_SIDES_PX);
  for (const [where, extent] of Object.entries(written)) {
    if (extent % 2) refuse(where, `must be even, and ${extent} is odd`);
  }
  return written.targetWidth === undefined ? named ?? DEFAULT_SIZE : Object.values(written);
}

/** A size as it is written, under its two keys; no key where neither side is given. */
function bothSides(name, width, height, limits, where = "") {
  if (width === undefined && height === undefined) return {};
  const sides = Object.entries({ [`${name}Width`]: width, [`${name}Height`]: height });
  for (const [key, extent] of sides) {
    if (extent === undefined) refuse(path(where, key), "is missing, and the other side is given");
    side(path(where, key), extent, limits);
  }
  return Object.fromEntries(sides);
}

function inPlayOrder(given, clips) {
  const indices = given.map((clip) => clip.clipIndex ?? null);
  if (indices.every((index) => index === null)) return clips;
  const places = new Map();
  indices.forEach((index, place) => {
    const where = `clips[${place}].clipIndex`;
    if (index === null) refuse(where, "is missing, and other clips have one");
    wholeNumber(where, index);
    if (places.has(index)) refuse(where, `must not be ${index}, which clips[${places.get(index)}] has`);
    places.set(index, place);
  });
  return [...places.keys()].sort((a, b) => a - b).map((index) => clips[places.get(index)]);
}

function transitions(given, joins) {
  if (!Array.isArray(given)) return Array.from({ length: joins }, () => transitionAt("transition", given));
  const all = given.map((each, join) => transitionAt(`transition[${join}]`, each));
  if (all.length !== joins) refuse("transition", `must be ${joins}, one per join, not ${all.length}`);
  return all;
}

function transitionAt(where, given) {
  const { type = CUT.type, duration = CUT.duration, ...others } = object(where, given ?? {});
  noOthers(where, others);
  seconds(path(where, "duration"), duration);
  if (duration > MAX_TRANSITION_S) {
    refuse(path(where, "duration"), `must be at most ${MAX_TRANSITION_S} s, not ${duration}`);
  }
  return { type: word(path(where, "type"), TRANSITION_TYPES, type), duration };
}

// a clip

function clipAt(where, given, warn) {
  const {
    fileName, title, clipName, clipIndex, key, sourceRange, cropKeyframes = [], rotation, segmentsData,
    segments, trimRange, fit, duration, sourceWidth, sourceHeight, ...others
  } = object(where, given);
  const at = (name) => path(where, name);
  if (!text(at("fileName"), needed(at("fileName"), fileName))) refuse(at("fileName"), "must not be empty");
  optional(duration, (value) => seconds(at("duration"), value));
  const named = title ?? clipName ?? "";
  return present({
    ...others,
    fileName,
    title: text(at(title === undefined ? "clipName" : "title"), named).trim() || undefined,
    sourceRange: optional(sourceRange, (value) => rangeAt(at("sourceRange"), value)),
    rotation: optional(rotation, (value) => within(at("rotation"), value, ROTATIONS)),
    cropKeyframes: keyframesAt(at("cropKeyframes"), cropKeyframes, warn),
    segmentsData: trimAndSpeeds(at, segmentsData, segments, trimRange),
    fit: optional(fit, (value) => word(at("fit"), FITS, value)),
    duration,
    ...bothSides("source", sourceWidth, sourceHeight, SOURCE_SIDES_PX, where),
  });
}

/** In order of time. Of two at one time the later one counts. */
function keyframesAt(where, given, warn) {
  const keyframes = list(where, given).map((each, place) => keyframeAt(`${where}[${place}]`, each));
  const times = keyframes.map(({ time }) => exactSeconds(time).toNumber());
  const lastAt = new Map(times.map((time, place) => [time, place]));
  const differ = (place, later) => JSON.stringify(keyframes[later]) !== JSON.stringify(keyframes[place]);
  const [place, ...more] = [...times.keys()].filter((each) => differ(each, lastAt.get(times[each])));
  if (place !== undefined) {
    const [time, others] = [times[place], more.length ? ` (and ${more.length} more)` : ""];
    const later = `cropKeyframes[${lastAt.get(time)}]`;
    warn(`${where}[${place}]${others}: ${later} is at the same time, ${time} s; the later one counts`);
  }
  return [...lastAt.values()].map((place) => keyframes[place]).sort((a, b) => a.time - b.time);
}

function keyframeAt(where, given) {
  const { time, frame, x, y, width, height, ease, ...others } = object(where, given);
  const at = (name) => path(where, name);
  noOthers(where, others);
  for (const [name, extent] of Object.entries({ x, y, width, height })) {
    number(at(name), needed(at(name), extent));
    if (extent <= 0 && (name === "width" || name === "height")) refuse(at(name), `must be above 0, not ${extent}`);
  }
  return present({
    time: timeOfKeyframe(at, time, frame),
    x, y, width, height,
    ease: optional(ease, (value) => word(at("ease"), EASES, value)),
  });
}

/** The time as it is written, or that of the frame. */
function timeOfKeyframe(at, time, frame) {
  if (frame === undefined) {
    seconds(at("time"), needed(at("time"), time));
    return time;
  }
  const shownAt = Fraction.of(wholeNumber(at("frame"), frame)).times(ONE_FRAME);
  if (shownAt.isBelow(ZERO)) refuse(at("frame"), `must not be negative, and is ${frame}`);
  if (time === undefined) return exactSeconds(shownAt.toNumber()).toNumber();
  const written = seconds(at("time"), time);
  if (written.plus(ONE_FRAME).isBelow(shownAt) || shownAt.plus(ONE_FRAME).isBelow(written)) {
    const there = `${shownAt.toNumber()} s, at ${KEYFRAME_FPS} frames a second`;
    refuse(at("frame"), `is at ${there}, and time says another one`);
  }
  return time;
}

/** `{ start, end }` or `[start, end]`; undefined where it names neither. */
function rangeAt(where, given) {
  const isPair = Array.isArray(given) && given.length === 2;
  const { start, end, ...others } = object(where, isPair ? { start: given[0], end: given[1] } : given);
  noOthers(where, others);
  return rangeOf(start, end, path(where, "start"), path(where, "end"));
}

function rangeOf(start, end, whereStart, whereEnd) {
  const from = optional(start, (value) => seconds(whereStart, value)) ?? ZERO;
  optional(end, (value) => inOrder(whereEnd, from, seconds(whereEnd, value)));
  return start === undefined && end === undefined ? undefined : present({ start, end });
}

// trim and speeds

/** `segmentsData` and `segments` are two names of one thing. The trim range may stand beside the latter. */
function trimAndSpeeds(at, segmentsData, segments, trimRange) {
  if (segmentsData !== undefined && (segments !== undefined || trimRange !== undefined)) {
    refuse(at("segmentsData"), "must not stand beside segments or trimRange");
  }
  const where = at(segmentsData === undefined ? "segments" : "segmentsData");
  const inner = speedsAt(where, segmentsData ?? segments ?? {});
  const outer = optional(trimRange, (value) => rangeAt(at("trimRange"), value));
  const [one, other] = [outer ?? {}, inner.trimRange ?? outer ?? {}];
  if (outer && (one.start !== other.start || one.end !== other.end)) {
    refuse(at("trimRange"), `must not differ from ${where.split(".").at(-1)}.trimRange`);
  }
  return present({ trimRange: outer ?? inner.trimRange, segments: inner.segments });
}

function speedsAt(where, given) {
  const {
    trimRange, trim_start: start, trim_end: end, segments, boundaries = [], segmentSpeeds = {}, ...others
  } = object(where, given);
  const at = (name) => path(where, name);
  noOthers(where, others);
  const stored = rangeOf(start, end, at("trim_start"), at("trim_end"));
  if (stored && trimRange !== undefined) {
    refuse(at(start === undefined ? "trim_end" : "trim_start"), "must not stand beside trimRange");
  }
  object(at("segmentSpeeds"), segmentSpeeds);
  const speeds = Object.entries(segmentSpeeds);
  if (speeds.length && segments?.length) {
    refuse(at("segmentSpeeds"), "must not stand beside a list of segments");
  }
  list(at("boundaries"), boundaries).forEach((time, index) => number(`${at("boundaries")}[${index}]`, time));
  return {
    trimRange: stored ?? optional(trimRange, (value) => rangeAt(at("trimRange"), value)),
    segments: segments === undefined || speeds.length
      ? byIndex(at, boundaries, speeds)
      : inOrderOfTime(at("segments"), segments),
  };
}

/** Segments of speeds that are given by the index of the stretch between two boundaries. */
function byIndex(at, boundaries, speeds) {
  const all = stretches(at("boundaries"), boundaries);
  return speeds.map(([index, speed]) => {
    const where = path(at("segmentSpeeds"), index);
    if (!all.has(index)) refuse(where, `must be one of the ${all.size} stretches, counted from 0`);
    if (speed !== null) read(where, exactSpeed, speed);
    return { ...all.get(index), speed };
  }).filter(({ speed }) => speed !== null).sort((a, b) => a.start - b.start);
}

/**
 * The stretches between boundaries, by index. A list that begins at 0 names every border. One that
 * does not names only the splits between, and its last stretch lasts to the end of the source.
 */
function stretches(where, boundaries) {
  const times = boundaries.map((time, index) => seconds(`${where}[${index}]`, time));
  times.slice(1).forEach((time, index) => {
    if (!times[index].isBelow(time)) refuse(`${where}[${index + 1}]`, "must be after the one before it");
  });
  const namesAll = times.length > 0 && !ZERO.isBelow(times[0]);
  const starts = namesAll ? boundaries.slice(0, -1) : [0, ...boundaries];
  const ends = namesAll ? boundaries.slice(1) : boundaries;
  return new Map(starts.map((start, index) => [String(index), present({ start, end: ends[index] })]));
}

/** A list of segments, none of which overlap. One without an end lasts to the end of the source. */
function inOrderOfTime(where, given) {
  const segments = list(where, given).map((each, place) => segmentAt(`${where}[${place}]`, each));
  const byTime = segments
    .map(({ start, end }, place) => ({ place, start: exactSeconds(start), stop: optional(end, exactSeconds) }))
    .sort((a, b) => (a.start.isBelow(b.start) ? -1 : Number(b.start.isBelow(a.start))));
  byTime.slice(1).forEach((later, index) => {
    const before = byTime[index];
    if (before.stop && !later.start.isBelow(before.stop)) return;
    refuse(`${where}[${later.place}]`, `must not overlap segments[${before.place}]`);
  });
  return byTime.map(({ place }) => segments[place]);
}

function segmentAt(where, given) {
  const { start, end, speed = 1, ...others } = object(where, given);
  noOthers(where, others);
  const from = seconds(path(where, "start"), needed(path(where, "start"), start));
  optional(end, (value) => inOrder(path(where, "end"), from, seconds(path(where, "end"), value)));
  read(path(where, "speed"), exactSpeed, speed);
  return present({ start, end, speed });
}
