// Exact fractions of whole numbers. The page decides frames and times with them, as the engine does.

const DECIMAL = /^([+-]?\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i;
const LARGEST_BITS = 900; // well below the 1024 bits at which a number becomes Infinity
const LARGEST_EXACT = BigInt(Number.MAX_SAFE_INTEGER);
const RATIO = /^(\d+)\/(\d+)$/;

/** An immutable fraction of two BigInts in lowest terms, its denominator above 0. */
export class Fraction {
  constructor(numerator, denominator = 1n) {
    const divisor = greatestCommonDivisor(numerator < 0n ? -numerator : numerator, denominator);
    this.numerator = numerator / divisor;
    this.denominator = denominator / divisor;
  }

  /** A whole number. */
  static of(whole) {
    return new Fraction(BigInt(whole));
  }

  /** `"30000/1001"`, or exactly the decimal number that is written: `"0.1"`, `"1e-7"`. */
  static parse(text) {
    const ratio = RATIO.exec(text);
    if (ratio && BigInt(ratio[2]) > 0n) return new Fraction(BigInt(ratio[1]), BigInt(ratio[2]));
    const decimal = DECIMAL.exec(text);
    if (!decimal) throw new Error(`${JSON.stringify(text)} is not a number`);
    const [, whole, decimals = "", exponent = "0"] = decimal;
    const digits = BigInt(whole + decimals);
    const shift = Number(exponent) - decimals.length;
    return shift < 0
      ? new Fraction(digits, 10n ** BigInt(-shift))
      : new Fraction(digits * 10n ** BigInt(shift));
  }

  plus(other) {
    return new Fraction(
      this.numerator * other.denominator + other.numerator * this.denominator,
      this.denominator * other.denominator);
  }

  minus(other) {
    return new Fraction(
      this.numerator * other.denominator - other.numerator * this.denominator,
      this.denominator * other.denominator);
  }

  times(other) {
    return new Fraction(this.numerator * other.numerator, this.denominator * other.denominator);
  }

  /** The quotient; the other must be above 0. */
  over(other) {
    return new Fraction(this.numerator * other.denominator, this.denominator * other.numerator);
  }

  isBelow(other) {
    return this.numerator * other.denominator < other.numerator * this.denominator;
  }

  /** The largest whole number that is not above it, as a BigInt. */
  floor() {
    return floorDivide(this.numerator, this.denominator);
  }

  /** The nearest whole number, halves towards +infinity, as a BigInt. */
  roundHalfUp() {
    return floorDivide(2n * this.numerator + this.denominator, 2n * this.denominator);
  }

  /**
   * The nearest fraction with a denominator of at most `limit`, by continued fractions, as Python's
   * `Fraction.limit_denominator` finds it. The fraction must not be below 0.
   */
  limitDenominator(limit) {
    if (this.denominator <= limit) return this;
    let [before, last] = [[0n, 1n], [1n, 0n]];
    let [numerator, denominator] = [this.numerator, this.denominator];
    for (;;) {
      const whole = numerator / denominator;
      const next = [before[0] + whole * last[0], before[1] + whole * last[1]];
      if (next[1] > limit) break;
      [before, last] = [last, next];
      [numerator, denominator] = [denominator, numerator - whole * denominator];
    }
    const steps = (limit - before[1]) / last[1];
    const between = new Fraction(before[0] + steps * last[0], before[1] + steps * last[1]);
    const isLastNearer = 2n * denominator * (before[1] + steps * last[1]) <= this.denominator;
    return isLastNearer ? new Fraction(...last) : between;
  }

  /** The nearest floating-point number; parts beyond 2^53 may cost it its last bits. */
  toNumber() {
    const excess = BigInt(Math.max(0, bitLength(this.denominator) - LARGEST_BITS));
    return Number(this.numerator >> excess) / Number(this.denominator >> excess);
  }
}

export const ZERO = Fraction.of(0);
export const ONE = Fraction.of(1);

export const smaller = (a, b) => (b.isBelow(a) ? b : a);
export const larger = (a, b) => (a.isBelow(b) ? b : a);

function floorDivide(numerator, denominator) {
  const quotient = numerator / denominator;
  const isBelow = numerator < 0n && quotient * denominator !== numerator;
  return isBelow ? quotient - 1n : quotient;
}

/** Of two BigInts from 0 on. Numbers divide many times faster than BigInts, where they suffice. */
function greatestCommonDivisor(a, b) {
  while (b > LARGEST_EXACT) [a, b] = [b, a % b];
  if (!b) return a;
  let [large, small] = [Number(b), Number(a % b)];
  while (small) [large, small] = [small, large % small];
  return BigInt(large);
}

const bitLength = (value) => 4 * value.toString(16).length;
