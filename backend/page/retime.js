// Which source time an output frame of one clip shows, and the way back. Exact, as the engine's
// `timeline/retime.py`: times are fractions of a second, frames are counted from 0.

import { Fraction, larger, ONE, smaller, ZERO } from "./fraction.js";
import { exactSeconds, exactSpeed, TOLERANCE } from "./timing.js";

/**
 * When the frames of a file are shown, as its glance tells: `ticks` are timestamps, counted from the
 * first frame's, in units of `timeBase` seconds. Source times count from `start` seconds on.
 */
export function sourceTiming({ timeBase, framePts, endPts }) {
  const ticks = new Float64Array(framePts.reduce((sum, [, count]) => sum + count, 0));
  let [frame, tick] = [0, 0];
  for (const [step, count] of framePts) {
    for (const until = frame + count; frame < until; frame++) ticks[frame] = tick += step;
  }
  const first = ticks[0];
  const base = Fraction.parse(timeBase);
  return {
    timeBase: base,
    ticks: ticks.map((each) => each - first),
    start: ZERO,
    duration: Fraction.of(endPts - first).times(base),
  };
}

/** A file of which nothing is known yet. */
export const UNKNOWN_SOURCE = { timeBase: ONE, ticks: Float64Array.of(0), start: ZERO, duration: ZERO };

/** The part of a file that a clip is made from: a source whose times count from the part's start. */
export function partOf(source, { start = 0, end } = {}) {
  const from = smaller(exactSeconds(start), source.duration);
  const to = end === undefined ? source.duration : smaller(exactSeconds(end), source.duration);
  return { ...source, start: from, duration: to.minus(from) };
}

/** The number of the source frame that is shown at a source time. */
export function sourceFrameAt({ timeBase, ticks, start }, time) {
  const tick = Number(time.plus(start).plus(TOLERANCE).over(timeBase).floor());
  let [low, high] = [0, ticks.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (ticks[middle] <= tick) low = middle;
    else high = middle;
  }
  return low;
}

/** The source time at which a source frame starts. */
export const startOfSourceFrame = ({ timeBase, ticks, start }, frame) =>
  Fraction.of(ticks[frame]).times(timeBase).minus(start);

/**
 * The trim range of a clip cut into pieces of one speed: source time from `start` to `stop`, retimed
 * to start at `at`. What no speed segment covers plays at speed 1.
 */
export function pieces(clip, duration) {
  const range = clip.segmentsData?.trimRange ?? {};
  const start = larger(ZERO, exactSeconds(range.start ?? 0));
  const stop = range.end === undefined ? duration : smaller(duration, exactSeconds(range.end));
  const cut = [];
  let [reached, at] = [start, ZERO];
  const add = (until, speed) => {
    cut.push({ start: reached, stop: until, speed, at });
    at = at.plus(until.minus(reached).over(speed));
    reached = until;
  };
  for (const each of speedSegments(clip, duration)) {
    const [from, to] = [larger(each.start, reached), smaller(each.stop, stop)];
    if (!from.isBelow(to)) continue;
    if (reached.isBelow(from)) add(from, ONE);
    add(to, each.speed);
  }
  if (reached.isBelow(stop) || !cut.length) add(larger(reached, stop), ONE);
  return cut;
}

const speedSegments = (clip, duration) =>
  (clip.segmentsData?.segments ?? [])
    .map(({ start, end, speed }) => ({
      start: exactSeconds(start),
      stop: end === undefined ? duration : exactSeconds(end),
      speed: exactSpeed(speed ?? 1),
    }))
    .sort((a, b) => (a.start.isBelow(b.start) ? -1 : b.start.isBelow(a.start) ? 1 : 0));

/** How long the pieces last when they are retimed. */
export const retimedDuration = (cut) => retimedTime(cut, cut.at(-1).stop);

/** Whole output frames: the retimed duration at a rate, rounded half up, at least 1. */
export const frameCount = (cut, rate) =>
  Math.max(1, Number(retimedDuration(cut).times(rate).roundHalfUp()));

/** The piece that plays at a source time: the first one before all of them, the last one after. */
export const pieceAt = (cut, time) => cut.findLast((each) => !time.isBelow(each.start)) ?? cut[0];

/** The retimed time of a source time, held at both ends. */
export function retimedTime(cut, time) {
  const piece = pieceAt(cut, time);
  const inside = smaller(larger(time, piece.start), piece.stop);
  return piece.at.plus(inside.minus(piece.start).over(piece.speed));
}

/** The source time of an output frame. The last frame may lie past the end by half a frame. */
export function sourceTime(cut, frame, rate) {
  const time = Fraction.of(frame).over(rate);
  const piece = cut.findLast((each) => !time.isBelow(each.at));
  return piece.start.plus(time.minus(piece.at).times(piece.speed));
}
