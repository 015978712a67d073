// Crop keyframes to the rectangle at a source time, as the engine's `timeline/keyframes.py` and
// `geometry.py`. Sides are in pixels of the upright source frame, times in seconds.

import { SMALLEST_SHARE } from "./constants.js";
import { exactSeconds } from "./timing.js";

const SIDES = ["x", "y", "width", "height"];

export const aspectOf = (document) => document.targetWidth / document.targetHeight;

/** The largest rectangle of an aspect (width / height) that is centred in a frame. */
function largestCentred(size, aspect) {
  const width = Math.min(size.width, size.height * aspect);
  const height = width / aspect;
  return { x: (size.width - width) / 2, y: (size.height - height) / 2, width, height };
}

/**
 * The movement of a crop: a function from a source time to the rectangle shown then, inside the
 * frame. Before the first and after the last keyframe the rectangle holds. With no keyframe it is
 * the largest centred one. `ease` is that of keyframes that have none.
 */
export function cropMovement(keyframes, size, aspect, ease) {
  const keys = keyframes.length
    ? distinct(keyframes, ease)
    : [{ time: 0, ...largestCentred(size, aspect) }];
  const slopes = keys.map((_, key) => tangents(keys, key));
  return (time) => {
    const key = Math.max(0, keys.findLastIndex((each) => each.time <= time));
    return inside(between(keys, slopes, key, time), size);
  };
}

/** Keyframes in order of time, to the microsecond. Of those at one time the last one counts. */
function distinct(keyframes, ease) {
  const exact = keyframes.map((each) => (
    { ...each, time: exactSeconds(each.time).toNumber(), ease: each.ease ?? ease }));
  exact.sort((a, b) => a.time - b.time);
  return exact.filter((each, index) => each.time !== exact[index + 1]?.time);
}

function between(keys, slopes, key, time) {
  const following = Math.min(key + 1, keys.length - 1);
  const [here, next] = [keys[key], keys[following]];
  const lasts = next.time - here.time;
  const moves = lasts > 0 && time > here.time && here.ease !== "cut";
  const share = moves ? (time - here.time) / lasts : 0;
  const side = (name) => {
    const [start, stop] = [here[name], next[name]];
    if (moves && here.ease === "spline") return splined(keys, key, name, share);
    return moves && here.ease === "smooth"
      ? hermite(start, stop, slopes[key][name] * lasts, slopes[following][name] * lasts, share)
      : start + share * (stop - start);
  };
  return Object.fromEntries(SIDES.map((name) => [name, side(name)]));
}

/**
 * One side on the curve from a keyframe to the next. Both ends and both sides of a cut stand for
 * the neighbour that is not there. An extent is held at a share of the smaller of the two.
 */
function splined(keys, key, name, share) {
  const [before, here, next, after] = [key - 1, key, key + 1, key + 2].map((each) => keys[each]);
  const [start, stop] = [here[name], next[name]];
  const value = catmullRom(
    before && before.ease !== "cut" ? before[name] : start, start,
    stop, after && next.ease !== "cut" ? after[name] : stop, share);
  const isExtent = name === "width" || name === "height";
  return isExtent ? Math.max(value, SMALLEST_SHARE * Math.min(start, stop)) : value;
}

/** The uniform Catmull-Rom curve from `start` to `stop`, at `share` of the way. */
function catmullRom(before, start, stop, after, share) {
  const square = 2 * before - 5 * start + 4 * stop - after;
  const cube = 3 * (start - stop) + after - before;
  return start + (share * ((stop - before) + share * (square + share * cube))) / 2;
}

/**
 * Slopes at a keyframe, per second, that keep a cubic monotone: the weighted harmonic mean of the
 * slopes on either side (Fritsch and Butland, 1984), and 0 where they differ in sign, at a cut and at
 * both ends.
 */
function tangents(keys, key) {
  const [before, here, after] = [keys[key - 1], keys[key], keys[key + 1]];
  const rests = !before || !after || before.ease === "cut" || here.ease === "cut";
  return Object.fromEntries(SIDES.map((name) => [name, rests ? 0 : tangent(before, here, after, name)]));
}

function tangent(before, here, after, name) {
  const [beforeS, afterS] = [here.time - before.time, after.time - here.time];
  const arriving = (here[name] - before[name]) / beforeS;
  const leaving = (after[name] - here[name]) / afterS;
  if (arriving * leaving <= 0) return 0;
  const [weight, other] = [2 * afterS + beforeS, afterS + 2 * beforeS];
  return (weight + other) / (weight / arriving + other / leaving);
}

/** The cubic with these ends and slopes, at `share` of the way; never past the ends. */
function hermite(start, stop, leaving, arriving, share) {
  const rest = 1 - share;
  const bend = share * rest * (leaving * rest - arriving * share);
  const value = start + (stop - start) * share * share * (3 - 2 * share) + bend;
  return Math.min(Math.max(value, Math.min(start, stop)), Math.max(start, stop));
}

/** A rectangle shrunk about its centre and then shifted into the frame. */
export function inside(rect, size) {
  let { x, y, width, height } = rect;
  const scale = Math.min(size.width / width, size.height / height);
  if (scale < 1) {
    x += (width * (1 - scale)) / 2;
    y += (height * (1 - scale)) / 2;
    width = Math.min(width * scale, size.width);
    height = Math.min(height * scale, size.height);
  }
  x = Math.min(Math.max(x, 0), size.width - width);
  y = Math.min(Math.max(y, 0), size.height - height);
  return { x, y, width, height };
}
