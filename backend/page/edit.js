// The document that the command line reads, with undo. `fileName` is the clip's key in the store.

import { CUT, normalised } from "./document.js";

const UNDO_STEPS = 200;

export class Edit {
  #changed;
  #past = [];
  #future = [];
  #merging = null;

  /** `document` is in the page's spelling; null is an edit without clips. */
  constructor(document, changed) {
    this.document = document ?? normalised({ clips: [] });
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

  /** `warn` is told what is left out. Throws an Error for a document that the engine refuses. */
  replace(document, warn) {
    const next = normalised(document, warn);
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

function fitTransitions(document) {
  const joins = Math.max(0, document.clips.length - 1);
  document.transition = document.transition.slice(0, joins);
  while (document.transition.length < joins) document.transition.push({ ...CUT });
}

function clear(object) {
  for (const key of Object.keys(object)) delete object[key];
  return object;
}
