// What the page's modules answer to test_page_timing.py. The test copies it beside them and calls it.

import { normalised } from "./document.js";
import { aspectOf, cropMovement } from "./keyframes.js";
import { layout, outputFrameAt, shownSourceFrame } from "./plan.js";
import { sourceTime, sourceTiming } from "./retime.js";
import { exactRate, exactSeconds, exactSpeed } from "./timing.js";

const text = ({ numerator, denominator }) => `${numerator}/${denominator}`;

/**
 * The plan of an edit, and its document in the page's spelling. `asked` has, by clip, which frames
 * and times of it to tell of. Source times are the clip's own.
 */
export function plan({ edit, sources, asked }) {
  const warnings = [];
  const document = normalised(edit, (warning) => warnings.push(warning));
  const timings = document.clips.map((clip) => sourceTiming(sources[clip.fileName].timing));
  const { clips, transitions, rate, frames } = layout(document, timings);
  return {
    document,
    again: normalised(document),
    warnings,
    rate: text(rate),
    frames,
    transitions,
    clips: clips.map((place, index) => {
      const { fileName, cropKeyframes } = document.clips[index];
      const aspect = aspectOf(document);
      const movement = cropMovement(cropKeyframes, sources[fileName].size, aspect, document.ease);
      const { numbers, cropTimes, stageTimes } = asked[index];
      return {
        fileName,
        frames: [place.start, place.stop],
        start: text(place.source.start),
        pieces: place.pieces.map(({ start, stop, speed, at }) => [start, stop, speed, at].map(text)),
        sourceTimes: numbers.map((frame) => text(sourceTime(place.pieces, frame, rate))),
        ticks: numbers.map((frame) => place.source.ticks[shownSourceFrame(place, frame)]),
        rects: cropTimes.map(movement).map(({ x, y, width, height }) => [x, y, width, height]),
        outputFrames: stageTimes.map((time) => outputFrameAt(place, exactSeconds(time))),
      };
    }),
  };
}

/** Numbers read, and back as the nearest floating-point number; null for what is refused. */
export function read({ rates, speeds, seconds }) {
  const exact = (reader) => (value) => {
    try {
      const fraction = reader(value);
      return [text(fraction), fraction.toNumber()];
    } catch {
      return null;
    }
  };
  return {
    rates: rates.map(exact(exactRate)),
    speeds: speeds.map(exact(exactSpeed)),
    seconds: seconds.map(exact(exactSeconds)),
  };
}

/** Why the page refuses an edit, or null. */
export function refusal(edit) {
  try {
    normalised(edit);
    return null;
  } catch (error) {
    return error.message;
  }
}
