// The plan's arithmetic, as far as hands on a page need it. The server's plan has the last word.

const TOLERANCE = 1e-9;
const ASPECTS = { "9:16": [1080, 1920], "16:9": [1920, 1080], "1:1": [1080, 1080], "4:5": [1080, 1350] };

export const SHAPES = ASPECTS;

const NTSC = { 23.976: 24000 / 1001, 29.97: 30000 / 1001, 59.94: 60000 / 1001 };

/** Frames per second of `30`, `29.97` or `"30000/1001"`. */
export function rate(fps) {
  const [over, under] = String(fps).split("/").map(Number);
  return under ? over / under : (NTSC[over] ?? over);
}

export const trimOf = (clip, duration) => {
  const range = clip.segmentsData?.trimRange ?? {};
  return [Math.max(0, range.start ?? 0), Math.min(duration, range.end ?? duration)];
};

/** The trim range cut into stretches of one speed: source `start` to `stop`, retimed from `at`. */
export function pieces(clip, duration) {
  const [from, to] = trimOf(clip, duration);
  const found = [];
  let reached = from;
  let at = 0;
  const add = (start, stop, speed) => {
    found.push({ start, stop, speed, at });
    at += (stop - start) / speed;
    reached = stop;
  };
  for (const each of [...(clip.segmentsData?.segments ?? [])].sort((a, b) => a.start - b.start)) {
    const [start, stop] = [Math.max(each.start, reached), Math.min(each.end, to)];
    if (start >= stop) continue;
    if (start > reached) add(reached, start, 1);
    add(start, stop, each.speed ?? 1);
  }
  if (reached < to || !found.length) add(reached, Math.max(to, reached), 1);
  return found;
}

export const lasts = (cut) => cut.at(-1).at + (cut.at(-1).stop - cut.at(-1).start) / cut.at(-1).speed;

/** Retimed time of a source time, held at both ends. */
export function retimed(cut, time) {
  const piece = cut.findLast((each) => each.start <= time) ?? cut[0];
  const inside = Math.min(Math.max(time, piece.start), piece.stop);
  return piece.at + (inside - piece.start) / piece.speed;
}

/** Source time of a retimed time, held at both ends. */
export function sourceTime(cut, time) {
  const piece = cut.findLast((each) => each.at <= time + TOLERANCE) ?? cut[0];
  return Math.min(piece.stop, piece.start + Math.max(0, time - piece.at) * piece.speed);
}

const roundHalfUp = (value) => Math.floor(value + 0.5 + TOLERANCE);

/** Where each clip lies in the export, in frames, and how long each join is. */
export function layout(document, durations) {
  const fps = rate(document.targetFps);
  const cuts = document.clips.map((clip, index) => pieces(clip, durations[index] ?? 0));
  const counts = cuts.map((cut) => Math.max(1, roundHalfUp(lasts(cut) * fps)));
  const wanted = document.transition.map(({ type, duration }) =>
    type === "cut" ? 0 : roundHalfUp((duration ?? 0.5) * fps));
  const joins = wanted.map((frames, join) => {
    const [left, right] = [counts[join], counts[join + 1]];
    const [before, after] = [wanted[join - 1] ?? 0, wanted[join + 1] ?? 0];
    const room = Math.min(Math.max(left - before, left >> 1), Math.max(right - after, right >> 1));
    return Math.min(frames, room);
  });
  let start = 0;
  const clips = counts.map((frames, index) => {
    const join = document.transition[index - 1];
    if (join?.type === "dissolve") start -= joins[index - 1];
    const place = { start, stop: start + frames, frames, cut: cuts[index] };
    start += frames;
    return place;
  });
  return { clips, joins, fps, frames: start, seconds: start / fps };
}

export const aspectOf = (document) => document.targetWidth / document.targetHeight;

export function largestCentred(size, aspect) {
  const width = Math.min(size.width, size.height * aspect);
  const height = width / aspect;
  return { x: (size.width - width) / 2, y: (size.height - height) / 2, width, height };
}

const SIDES = ["x", "y", "width", "height"];

/** The crop shown at a source time, as the engine moves it: linear, smooth (monotone cubic), cut. */
export function cropAt(keyframes, time, size, aspect) {
  if (!keyframes.length) return largestCentred(size, aspect);
  const key = Math.max(0, keyframes.findLastIndex((each) => each.time <= time));
  const [here, next] = [keyframes[key], keyframes[Math.min(key + 1, keyframes.length - 1)]];
  const lastsFor = next.time - here.time;
  const ease = here.ease ?? "linear";
  const moves = lastsFor > 0 && time > here.time && ease !== "cut";
  const share = moves ? (time - here.time) / lastsFor : 0;
  const rect = {};
  for (const side of SIDES) {
    const [start, stop] = [here[side], next[side]];
    rect[side] = moves && ease === "smooth"
      ? hermite(start, stop, tangent(keyframes, key, side) * lastsFor,
        tangent(keyframes, key + 1, side) * lastsFor, share)
      : start + share * (stop - start);
  }
  return inside(rect, size);
}

function tangent(keyframes, key, side) {
  const [before, here, after] = [keyframes[key - 1], keyframes[key], keyframes[key + 1]];
  if (!before || !after || before.ease === "cut" || here.ease === "cut") return 0;
  const [came, goes] = [here.time - before.time, after.time - here.time];
  const [arriving, leaving] = [(here[side] - before[side]) / came, (after[side] - here[side]) / goes];
  if (arriving * leaving <= 0) return 0;
  const [weight, other] = [2 * goes + came, goes + 2 * came];
  return (weight + other) / (weight / arriving + other / leaving);
}

function hermite(start, stop, leaving, arriving, share) {
  const rest = 1 - share;
  const bend = share * rest * (leaving * rest - arriving * share);
  const value = start + (stop - start) * share * share * (3 - 2 * share) + bend;
  return Math.min(Math.max(value, Math.min(start, stop)), Math.max(start, stop));
}

/** A rectangle shrunk and then shifted into the frame. */
export function inside(rect, size) {
  let { x, y, width, height } = rect;
  const scale = Math.min(size.width / width, size.height / height);
  if (scale < 1) {
    x += (width * (1 - scale)) / 2;
    y += (height * (1 - scale)) / 2;
    width *= scale;
    height *= scale;
  }
  x = Math.min(Math.max(x, 0), size.width - width);
  y = Math.min(Math.max(y, 0), size.height - height);
  return { x, y, width, height };
}

/** `1:02.345` */
export function clock(seconds, digits = 2) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - minutes * 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return `${minutes}:${rest}`;
}
