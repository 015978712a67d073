// The document that the command line reads, with undo. `fileName` is the clip's key in the store.

import { ASPECT_RATIOS, DEFAULT_FPS, DEFAULT_SIZE, DEFAULT_TRANSITION_S } from "./constants.js";
import { Fraction } from "./fraction.js";
import { check } from "./validation.js";

const EMPTY = {
  clips: [],
  transition: [],
  targetFps: DEFAULT_FPS,
  targetWidth: DEFAULT_SIZE[0],
  targetHeight: DEFAULT_SIZE[1],
  includeAudio: true,
};
const CUT = { type: "cut", duration: Fraction.parse(DEFAULT_TRANSITION_S).toNumber() };
const UNDO_STEPS = 200;

export class Edit {
  #changed;
  #past = [];
  #future = [];
  #merging = null;

  constructor(document, changed) {
    this.document = normalised(document ?? EMPTY);
    this.#changed = changed;
  }

  /** Makes one step of undo. Steps in a row with the same `gesture` are one, until `rest`. */
  change(mutate, gesture = null) {
    const next = structuredClone(this.document);
    mutate(next);
    fitTransitions(next);
    if (JSON.stringify(next) === JSON.stringify(this.document)) return;
    if (gesture === null || gesture !== this.#merging) {
      this.#past = [...this.#past, this.document].slice(-UNDO_STEPS);
    }
    this.#merging = gesture;
    this.#future = [];
    this.document = next;
    this.#changed();
  }

  rest() {
    this.#merging = null;
  }

  /** Throws an Error for a document that the engine refuses. */
  replace(document) {
    const next = normalised(document);
    check(next);
    this.change((now) => Object.assign(clear(now), next));
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  undo() {
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.#step(this.#future, this.#past);
  }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.document);
    this.document = from.pop();
    this.#merging = null;
    this.#changed();
  }
}

/** The document for the server: each clip names its key in the store. */
export const forServer = (document) => ({
  ...document,
  clips: document.clips.map((clip) => ({ ...clip, key: clip.fileName })),
});

/** A clip that shows the whole file. */
export const newClip = (key, title) => ({
  fileName: key,
  title,
  cropKeyframes: [],
  segmentsData: { segments: [] },
});

/** Any document the engine reads, in one spelling. Throws an Error that says what is wrong. */
export function normalised(given) {
  if (typeof given !== "object" || given === null || !Array.isArray(given.clips)) {
    throw new Error("an edit is an object with a list of clips");
  }
  const { globalAspectRatio, transition, clips, ...rest } = given;
  const [width, height] = ASPECT_RATIOS[globalAspectRatio] ?? DEFAULT_SIZE;
  const ordered = clips.every((clip) => Number.isInteger(clip.clipIndex))
    ? [...clips].sort((a, b) => a.clipIndex - b.clipIndex)
    : clips;
  const document = { ...EMPTY, targetWidth: width, targetHeight: height, ...tidied(rest) };
  document.clips = ordered.map(normalisedClip);
  const joins = Math.max(0, clips.length - 1);
  const many = Array.isArray(transition) ? transition : Array(joins).fill(transition);
  document.transition = many.map((each) => ({ ...CUT, ...tidied(each ?? {}) }));
  fitTransitions(document);
  return document;
}

function normalisedClip(given, index) {
  if (typeof given?.fileName !== "string" || !given.fileName) {
    throw new Error(`clips[${index}].fileName is missing`);
  }
  const { clipIndex, key, segments, trimRange, segmentsData, cropKeyframes, ...rest } = given;
  const range = segmentsData?.trimRange ?? trimRange;
  const speeds = (segmentsData?.segments ?? stretches(segments))
    .map((each) => ({ start: each.start, end: each.end, speed: each.speed ?? 1 }))
    .sort((a, b) => a.start - b.start);
  const keyframes = (cropKeyframes ?? []).map((each) => tidied(each));
  return {
    ...tidied(rest),
    cropKeyframes: keyframes.sort((a, b) => a.time - b.time),
    segmentsData: { ...(range ? { trimRange: withoutNulls(range) } : {}), segments: speeds },
  };
}

/** Segments of the spelling that gives speeds by the index of the stretch between two boundaries. */
const stretches = (segments) =>
  Object.entries(withoutNulls(segments?.segmentSpeeds ?? {})).map(([index, speed]) => ({
    start: segments.boundaries[Number(index)],
    end: segments.boundaries[Number(index) + 1],
    speed,
  }));

function fitTransitions(document) {
  const joins = Math.max(0, document.clips.length - 1);
  document.transition = document.transition.slice(0, joins);
  while (document.transition.length < joins) document.transition.push({ ...CUT });
}

/** Without nulls, its words in lower case. */
function tidied(object) {
  const kept = withoutNulls(object);
  for (const word of ["type", "ease", "fit"]) {
    if (typeof kept[word] === "string") kept[word] = kept[word].toLowerCase();
  }
  return kept;
}

const withoutNulls = (object) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null && value !== undefined));

function clear(object) {
  for (const key of Object.keys(object)) delete object[key];
  return object;
}
