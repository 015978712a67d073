// What the modules of the page share: the edit, the clips' media, what is selected, the time.

import { glance, stripAddress } from "./api.js";
import { normalised } from "./document.js";
import { Edit } from "./edit.js";
import { aspectOf, cropMovement } from "./keyframes.js";
import { layout, outputFrameAt } from "./plan.js";
import { partOf, sourceTiming, UNKNOWN_SOURCE } from "./retime.js";
import { exactSeconds } from "./timing.js";

const STORAGE = "framestream edit";
const listeners = new Map();

/** Calls `hear` on each of the events `edit`, `select`, `time`, `picture` and `media`. */
export function on(names, hear) {
  for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), hear]);
}

export const tell = (name) => listeners.get(name)?.forEach((hear) => hear());

// An edit replaces the document and all that is in it, so results last until the next one.
const planOf = remember((document, ...sources) => layout(document, sources));
const movementOf = remember(cropMovement);

/** The edit of the last visit that cannot be read any more: `{ text, reason }`, or null. */
export let unreadable = null;

export const app = {
  edit: new Edit(remembered(), edited),
  /**
   * By key: `{ title, share, error, facts, size, source, strip, peaks, image }`. What the server
   * tells of a clip, from `facts` on, is there once it is known; `source` are the times of its frames.
   */
  media: new Map(),
  /** The number of the clip on the stage. */
  index: 0,
  /** `{ kind: "key" | "speed", index }`, or null. */
  picked: null,
  /** Source time on the stage, in seconds. */
  time: 0,

  get document() {
    return this.edit.document;
  },

  get clip() {
    return this.document.clips[this.index];
  },

  get medium() {
    return this.clip && this.media.get(this.clip.fileName);
  },

  get size() {
    return this.medium?.size;
  },

  /** When the frames of the clip on the stage are shown, in the clip's own time. */
  get source() {
    return this.sourceOf(this.clip ?? {});
  },

  sourceOf(clip) {
    return partOf(this.media.get(clip.fileName)?.source ?? UNKNOWN_SOURCE, clip.sourceRange);
  },

  /** How long the clip's source lasts: the file, or the range of it that the clip is made from. */
  durationOf(clip) {
    return this.sourceOf(clip).duration.toNumber();
  },

  /** A time of a clip as a share of its file, from 0 to 1. */
  shareOfFile(clip, time) {
    const { facts } = this.media.get(clip.fileName);
    return (this.sourceOf(clip).start.toNumber() + time) / facts.durationSeconds;
  },

  /** Names what is on the stage: another clip, or another range of its file, has another name. */
  get onStage() {
    return JSON.stringify([this.index, this.clip?.fileName, this.clip?.sourceRange]);
  },

  get isKnown() {
    const { clips } = this.document;
    return clips.length > 0 && clips.every((clip) => this.media.get(clip.fileName)?.facts);
  },

  get plan() {
    const sources = this.document.clips.map((clip) => this.media.get(clip.fileName)?.source);
    return planOf(this.document, ...sources.map((source) => source ?? UNKNOWN_SOURCE));
  },

  /** Where the clip on the stage lies in the export. */
  get place() {
    return this.plan.clips[this.index];
  },

  /** The trim range of the clip on the stage, in seconds. */
  get trim() {
    const { pieces } = this.place;
    return [pieces[0].start.toNumber(), pieces.at(-1).stop.toNumber()];
  },

  /** The movement of the crop on the stage: a function from a source time to a rectangle. */
  get movement() {
    return movementOf(this.clip.cropKeyframes, this.size, aspectOf(this.document), this.document.ease);
  },

  /** The crop on the stage now. */
  get crop() {
    return this.movement(this.time);
  },

  /** The output frame that shows what is on the stage. */
  get outputFrame() {
    return outputFrameAt(this.place, exactSeconds(this.time));
  },

  change(mutate, gesture = null) {
    this.edit.change(mutate, gesture);
  },

  changeClip(mutate, gesture = null) {
    this.edit.change((document) => mutate(document.clips[this.index]), gesture);
  },

  select(index) {
    const last = this.document.clips.length - 1;
    this.index = Math.max(0, Math.min(index, last));
    this.picked = null;
    tell("select");
  },

  pick(picked) {
    this.picked = picked;
    tell("select");
  },
};

function edited() {
  const { clips } = app.document;
  app.index = Math.max(0, Math.min(app.index, clips.length - 1));
  if (app.picked) {
    const list = app.picked.kind === "key" ? app.clip?.cropKeyframes : app.clip?.segmentsData.segments;
    if (!list?.[app.picked.index]) app.picked = null;
  }
  localStorage.setItem(STORAGE, JSON.stringify(app.document));
  clips.forEach((clip) => know(clip.fileName));
  tell("edit");
}

/** The edit of the last visit; null where there is none, or none that can be read. */
function remembered() {
  const text = localStorage.getItem(STORAGE);
  if (text === null) return null;
  try {
    return normalised(JSON.parse(text));
  } catch (error) {
    unreadable = { text, reason: error.message };
    return null;
  }
}

/** A function that keeps its last result, and gives it again for the same arguments. */
function remember(compute) {
  let last = null;
  return (...given) => {
    const isSame = last?.given.length === given.length
      && given.every((each, index) => each === last.given[index]);
    if (!isSame) last = { given, result: compute(...given) };
    return last.result;
  };
}

/** Asks the server once what a clip is. The clip may still be on its way there. */
export async function know(key) {
  const there = app.media.get(key);
  if (there && (there.facts || there.asking || there.error || there.share !== undefined)) return;
  const medium = Object.assign(there ?? { title: key }, { asking: true, error: null });
  app.media.set(key, medium);
  try {
    const { file, strip, peaks, timing } = await glance(key);
    const image = new Image();
    image.src = stripAddress(key);
    const size = { width: file.width, height: file.height };
    Object.assign(medium, { facts: file, size, source: sourceTiming(timing), strip, peaks, image });
    image.decode().then(() => tell("media"), () => {});
  } catch (error) {
    medium.error = error.status === 404 ? "is not among your clips" : error.message;
  }
  medium.asking = false;
  tell("media");
}
