// Checks what people write into an edit, as the engine's `timeline/validation.py`. Each check takes
// where the value stands, in the document's spelling, and throws an Error that names it.

import { LARGEST_NUMBER } from "./constants.js";
import { ZERO } from "./fraction.js";
import { exactNumber, exactSeconds } from "./timing.js";

const IDENTIFIER = /^[\p{L}_][\p{L}\p{N}_]{0,39}$/u;

/** A place in the document that is one key further in: `clips[2].segments["7"]`. */
export const path = (where, key) => {
  if (!IDENTIFIER.test(key)) return `${where}[${shown(key)}]`;
  return where ? `${where}.${key}` : key;
};

/** The keys of an object without those that are null, which means the same as absent. */
export function object(where, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    refuse(where, `must be an object, not ${shown(value)}`);
  }
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null && each !== undefined));
}

export function list(where, value) {
  if (!Array.isArray(value)) refuse(where, `must be a list, not ${shown(value)}`);
  return value;
}

/** Refuses keys that mean nothing where they could make another film. */
export function noOthers(where, others) {
  const [key] = Object.keys(others);
  if (key !== undefined) refuse(path(where, key), "unknown key");
}

/** A source time as a fraction, at least 0 when it is rounded to the microsecond. */
export function seconds(where, value) {
  const exact = read(where, exactSeconds, value);
  if (exact.isBelow(ZERO)) refuse(where, `must not be negative, and is ${shown(value)}`);
  return exact;
}

export function number(where, value) {
  if (typeof value !== "number" || !(Math.abs(value) <= LARGEST_NUMBER)) {
    refuse(where, `must be a number, not ${shown(value)}`);
  }
  return value;
}

export function wholeNumber(where, value) {
  if (!Number.isInteger(number(where, value))) refuse(where, `must be a whole number, not ${shown(value)}`);
  return value;
}

/** A number that a reader makes exact, from one fraction to another. */
export function within(where, value, [lowest, highest], reader = exactNumber) {
  const exact = read(where, reader, value);
  if (exact.isBelow(lowest) || highest.isBelow(exact)) {
    refuse(where, `must be from ${lowest.toNumber()} to ${highest.toNumber()}, not ${shown(value)}`);
  }
  return value;
}

/** One side of a size, in pixels. */
export function side(where, value, [shortest, longest]) {
  const extent = wholeNumber(where, value);
  if (extent < shortest || extent > longest) {
    refuse(where, `must be from ${shortest} to ${longest}, not ${extent}`);
  }
  return extent;
}

export function flag(where, value) {
  if (typeof value !== "boolean") refuse(where, `must be true or false, not ${shown(value)}`);
  return value;
}

/** A text that a file or its name can hold: without NUL and halves of characters. */
export function text(where, value) {
  if (typeof value !== "string") refuse(where, `must be text, not ${shown(value)}`);
  if (/[\0\p{Cs}]/u.test(value)) refuse(where, "holds a character that cannot be written");
  return value;
}

/** One of some words, in upper or lower case. */
export function word(where, words, value) {
  const lower = typeof value === "string" ? value.toLowerCase() : value;
  if (!words.includes(lower)) refuse(where, `must be ${words.join(", ")}, not ${shown(value)}`);
  return lower;
}

/** Refuses an end that does not lie after its start. */
export function inOrder(where, start, stop) {
  if (!start.isBelow(stop)) {
    refuse(where, `must be after its start at ${start.toNumber()} s, not ${stop.toNumber()}`);
  }
}

/** What a reader makes of a value; its Error gets the place put in front. */
export function read(where, reader, value) {
  try {
    return reader(value);
  } catch (error) {
    return refuse(where, error.message);
  }
}

/** A value that must be there. */
export function needed(where, value) {
  if (value === undefined) refuse(where, "is missing");
  return value;
}

export function refuse(where, reason) {
  throw new Error(where ? `${where}: ${reason}` : reason);
}

/** A value in a few words, for an error. */
export function shown(value) {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "an object";
  const written = JSON.stringify(value) ?? "nothing";
  return written.length > 40 ? `${written.slice(0, 37)} …` : written;
}
