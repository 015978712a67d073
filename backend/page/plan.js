// Where each clip lies in the export and what each output frame shows, as the engine's
// `timeline/plan.py` decides it. The server's plan is the one that is exported.

import { frameCount, partOf, pieces, retimedTime, sourceFrameAt, sourceTime } from "./retime.js";
import { exactRate, exactSeconds, TOLERANCE } from "./timing.js";

/**
 * The clips of an edit on the output's frame grid, half-open from `start` to `stop`, and the length
 * of each transition in frames. `files` are the timings of the clips' files.
 */
export function layout(document, files) {
  const rate = exactRate(document.targetFps);
  const fps = rate.toNumber();
  const sources = document.clips.map((clip, index) => partOf(files[index], clip.sourceRange));
  const cuts = document.clips.map((clip, index) => pieces(clip, sources[index].duration));
  const counts = cuts.map((cut) => frameCount(cut, rate));
  const transitions = fittedTransitions(document.transition, counts, rate);
  let stop = 0;
  const clips = counts.map((frames, index) => {
    const isDissolve = document.transition[index - 1]?.type === "dissolve";
    const start = stop - (isDissolve ? transitions[index - 1] : 0);
    stop = start + frames;
    return { start, stop, frames, pieces: cuts[index], source: sources[index], rate };
  });
  return { clips, transitions, rate, fps, frames: stop, seconds: stop / fps };
}

/**
 * The frames of each transition. Where the clips are too short they are shortened: a clip between
 * two transitions gives each what the other leaves, or half to each where both want more.
 */
function fittedTransitions(transitions, counts, rate) {
  const wanted = transitions.map(({ type, duration }) =>
    (type === "cut" ? 0 : Number(exactSeconds(duration).times(rate).roundHalfUp())));
  return wanted.map((frames, join) => {
    const [left, right] = [counts[join], counts[join + 1]];
    const [before, after] = [wanted[join - 1] ?? 0, wanted[join + 1] ?? 0];
    const leftGives = Math.max(left - before, Math.floor(left / 2));
    const rightGives = Math.max(right - after, Math.floor(right / 2));
    return Math.min(frames, leftGives, rightGives);
  });
}

/** The number of the source frame that a clip shows in its output frame `frame`, counted from 0. */
export const shownSourceFrame = ({ pieces: cut, source, rate }, frame) =>
  sourceFrameAt(source, sourceTime(cut, frame, rate));

/**
 * The output frame of the export that shows a source time of a clip: the one that shows the very
 * source frame, where there is one, else the last one before it.
 */
export function outputFrameAt(place, time) {
  const retimed = retimedTime(place.pieces, time).plus(TOLERANCE);
  const at = Math.min(Number(retimed.times(place.rate).floor()), place.frames - 1);
  const wanted = sourceFrameAt(place.source, time);
  const shows = (frame) =>
    frame >= 0 && frame < place.frames && shownSourceFrame(place, frame) === wanted;
  return place.start + ([at, at + 1, at - 1].find(shows) ?? at);
}
