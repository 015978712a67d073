// What the modules of the page share: the edit, the clips' media, what is selected, the time.

import { glance, stripAddress } from "./api.js";
import { Edit, normalised } from "./edit.js";
import { cropAt, aspectOf, layout, retimed } from "./timing.js";

const STORAGE = "framestream edit";
const listeners = new Map();

/** Hear of `edit`, `select`, `time`, `picture` or `media`. */
export function on(names, hear) {
  for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), hear]);
}

export const tell = (name) => listeners.get(name)?.forEach((hear) => hear());

export const app = {
  edit: new Edit(remembered(), edited),
  /** By key: `{ title, share, error, facts, strip, peaks, image }`; `facts` once it is known. */
  media: new Map(),
  /** Which clip is on the stage. */
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
    const facts = this.medium?.facts;
    return facts && { width: facts.width, height: facts.height };
  },

  durationOf(clip) {
    return this.media.get(clip.fileName)?.facts?.durationSeconds ?? 0;
  },

  get isKnown() {
    const { clips } = this.document;
    return clips.length > 0 && clips.every((clip) => this.durationOf(clip) > 0);
  },

  get plan() {
    const { clips } = this.document;
    return layout(this.document, clips.map((clip) => this.durationOf(clip)));
  },

  /** The crop on the stage now. */
  get crop() {
    return cropAt(this.clip.cropKeyframes, this.time, this.size, aspectOf(this.document));
  },

  /** The output frame that shows the stage's time. */
  get outputFrame() {
    const { clips, fps } = this.plan;
    const place = clips[this.index];
    const inside = Math.floor((retimed(place.cut, this.time) + 0.001) * fps);
    return place.start + Math.min(Math.max(0, inside), place.frames - 1);
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

function remembered() {
  try {
    return normalised(JSON.parse(localStorage.getItem(STORAGE)));
  } catch {
    return null;
  }
}

/** Has the server say what a clip is, once; it may still be on its way there. */
export async function know(key) {
  const there = app.media.get(key);
  if (there && (there.facts || there.asking || there.error || there.share !== undefined)) return;
  const medium = Object.assign(there ?? { title: key }, { asking: true, error: null });
  app.media.set(key, medium);
  try {
    const told = await glance(key);
    const image = new Image();
    image.src = stripAddress(key);
    Object.assign(medium, { facts: told.file, strip: told.strip, peaks: told.peaks, image });
    image.decode().then(() => tell("media"), () => {});
  } catch (error) {
    medium.error = error.status === 404 ? "is not among your clips" : error.message;
  }
  medium.asking = false;
  tell("media");
}
