// Checks an edit in the page's spelling: the limits, words and order that the engine demands of it.

import {
  EASES, FITS, MAX_CLIPS, MAX_TRANSITION_S, TARGET_SIDES_PX, TRANSITION_TYPES,
} from "./constants.js";
import { ZERO } from "./fraction.js";
import { exactRate, exactSeconds, exactSpeed } from "./timing.js";

/** Throws an Error that names the first thing in a document that the engine refuses. */
export function check(document) {
  const { clips, transition } = document;
  if (clips.length > MAX_CLIPS) refuse("clips", `must be at most ${MAX_CLIPS}, not ${clips.length}`);
  clips.forEach((clip, index) => checkClip(clip, `clips[${index}]`));
  transition.forEach((each, index) => checkTransition(each, `transition[${index}]`));
  read("targetFps", exactRate, document.targetFps);
  for (const side of ["targetWidth", "targetHeight"]) checkTargetSide(side, document[side]);
  if (document.fit !== undefined) checkWord("fit", FITS, document.fit);
}

function checkClip(clip, where) {
  const { trimRange = {}, segments } = clip.segmentsData;
  const inside = `${where}.segmentsData`;
  const start = seconds(`${inside}.trimRange.start`, trimRange.start ?? 0);
  if (trimRange.end !== undefined) checkOrder(`${inside}.trimRange.end`, start, trimRange.end);
  segments.forEach((each, index) => {
    const place = `${inside}.segments[${index}]`;
    const from = seconds(`${place}.start`, each.start);
    checkOrder(`${place}.end`, from, each.end);
    read(`${place}.speed`, exactSpeed, each.speed);
    if (index && from.isBelow(exactSeconds(segments[index - 1].end))) {
      refuse(place, `must not overlap segments[${index - 1}]`);
    }
  });
  clip.cropKeyframes.forEach((each, index) => checkKeyframe(each, `${where}.cropKeyframes[${index}]`));
  if (clip.fit !== undefined) checkWord(`${where}.fit`, FITS, clip.fit);
}

function checkKeyframe(keyframe, where) {
  seconds(`${where}.time`, keyframe.time);
  for (const side of ["x", "y", "width", "height"]) {
    const extent = keyframe[side];
    if (!Number.isFinite(extent)) refuse(`${where}.${side}`, `must be a number, not ${shown(extent)}`);
    if (extent <= 0 && ["width", "height"].includes(side)) {
      refuse(`${where}.${side}`, `must be above 0, not ${extent}`);
    }
  }
  if (keyframe.ease !== undefined) checkWord(`${where}.ease`, EASES, keyframe.ease);
}

function checkTransition({ type, duration }, where) {
  checkWord(`${where}.type`, TRANSITION_TYPES, type);
  seconds(`${where}.duration`, duration);
  if (duration > MAX_TRANSITION_S) {
    refuse(`${where}.duration`, `must be at most ${MAX_TRANSITION_S} s, not ${duration}`);
  }
}

function checkTargetSide(where, extent) {
  const [shortest, longest] = TARGET_SIDES_PX;
  if (!Number.isInteger(extent) || extent < shortest || extent > longest) {
    refuse(where, `must be a whole number from ${shortest} to ${longest}, not ${shown(extent)}`);
  }
  if (extent % 2) refuse(where, `must be even, and ${extent} is odd`);
}

function checkOrder(where, start, end) {
  const stop = seconds(where, end);
  if (!start.isBelow(stop)) refuse(where, `must be after its start at ${start.toNumber()} s, not ${end}`);
}

function checkWord(where, words, value) {
  if (!words.includes(value)) refuse(where, `must be ${words.join(", ")}, not ${shown(value)}`);
}

/** A source time, at least 0 when it is rounded to the microsecond. */
function seconds(where, value) {
  const exact = read(where, exactSeconds, value);
  if (exact.isBelow(ZERO)) refuse(where, `must not be negative, and is ${value}`);
  return exact;
}

function read(where, reader, value) {
  try {
    return reader(value);
  } catch (error) {
    return refuse(where, error.message);
  }
}

function refuse(where, reason) {
  throw new Error(`${where}: ${reason}`);
}

const shown = (value) => JSON.stringify(value);
