// Exact times, speeds and frame rates as the engine reads them, and times for people.

import {
  LARGEST_NUMBER, MAX_RATE_DENOMINATOR, MAX_SPEED_DENOMINATOR, NTSC_RATES, RATE_SPELLING, RATES_HZ,
  SPEEDS, TIME_STEP_S, TIMESTAMP_TOLERANCE_S,
} from "./constants.js";
import { Fraction, larger, ZERO } from "./fraction.js";

/** Containers round timestamps, so a frame counts as shown from this much before its own. */
export const TOLERANCE = Fraction.parse(TIMESTAMP_TOLERANCE_S);

const TIME_STEP = Fraction.parse(TIME_STEP_S);
const SPELLING = new RegExp(`^(?:${RATE_SPELLING})$`);
const [SLOWEST, FASTEST] = SPEEDS.map(Fraction.parse);
const [LOWEST_RATE, HIGHEST_RATE] = RATES_HZ.map(Fraction.of);

/** Exactly the decimal number that is written. Throws an Error for what is not a number. */
export function exactNumber(value) {
  if (typeof value !== "number" || !(Math.abs(value) <= LARGEST_NUMBER)) {
    const limits = `between -${LARGEST_NUMBER} and ${LARGEST_NUMBER}`;
    throw new Error(`must be a number ${limits}, not ${JSON.stringify(value)}`);
  }
  return Fraction.parse(String(value));
}

/** Seconds to the microsecond. */
export function exactSeconds(value) {
  const steps = exactNumber(value).over(TIME_STEP).roundHalfUp();
  return Fraction.of(steps).times(TIME_STEP);
}

/** A speed factor. Throws an Error outside the engine's limits. */
export function exactSpeed(value) {
  const exact = exactNumber(value);
  if (exact.isBelow(SLOWEST) || FASTEST.isBelow(exact)) {
    const limits = `from ${SLOWEST.toNumber()} to ${FASTEST.toNumber()}`;
    throw new Error(`must be ${limits}, not ${value}`);
  }
  return exact.limitDenominator(BigInt(MAX_SPEED_DENOMINATOR));
}

/**
 * Frames per second of `30`, `29.97` or `"30000/1001"`. The decimal numbers of the NTSC family
 * (29.97, 59.94, 23.98 ...) mean n*1000/1001. Throws an Error for what the engine refuses.
 */
export function exactRate(value) {
  if (typeof value !== "string") exactNumber(value);
  else if (!SPELLING.test(value)) {
    throw new Error(`must be a number or like "30000/1001", not ${JSON.stringify(value)}`);
  }
  const text = String(value).trim();
  const written = larger(ZERO, Fraction.parse(text)).limitDenominator(BigInt(MAX_RATE_DENOMINATOR));
  const ntsc = NTSC_RATES[`${written.numerator}/${written.denominator}`];
  const rate = ntsc === undefined || text.includes("/") ? written : Fraction.parse(ntsc);
  if (rate.isBelow(LOWEST_RATE) || HIGHEST_RATE.isBelow(rate)) {
    throw new Error(`must be from ${RATES_HZ[0]} to ${RATES_HZ[1]}, not ${JSON.stringify(value)}`);
  }
  return rate;
}

/** `1:02.345` */
export function clock(seconds, digits = 2) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - minutes * 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return `${minutes}:${rest}`;
}
