// Brakes for a parser that trusts what it reads. hyparquet loops until counts from the file are reached,
// and a thread that loops cannot be stopped from outside (Deno 2.9: terminate() leaves it running). So
// the worker's own DataView and Array are replaced by ones that stop such loops; nothing else runs there.

/** Most elements of an array made with its length. */
const MAX_ELEMENTS = 8_000_000;

/** Reads between two looks at the clock. */
const READS = 2 ** 16;

let stopAt = Infinity;

/** Lets reading go on for so long from now. */
export function allowTime(ms: number) {
  stopAt = performance.now() + ms;
}

/** Why a guard stopped the parser. */
export class Stopped extends Error {}

const GETTERS = [
  "getUint8",
  "getInt8",
  "getUint16",
  "getInt16",
  "getUint32",
  "getInt32",
  "getFloat32",
  "getFloat64",
  "getBigInt64",
  "getBigUint64",
] as const;

/**
 * Replaces the realm's DataView readers and `new Array(n)`: reading at an offset that is no whole number
 * throws (as it is, NaN reads byte 0 for ever), reading for longer than allowed throws, and an array made
 * with a length cannot be filled beyond it.
 */
export function installGuards() {
  let reads = 0;
  for (const name of GETTERS) {
    const read = DataView.prototype[name] as (at: number, little?: boolean) => number;
    const guarded = function (this: DataView, at: number, little?: boolean) {
      if (!(at >= 0)) throw new RangeError(`it would read at byte ${at}`);
      if (++reads % READS === 0 && performance.now() > stopAt) {
        throw new Stopped("it takes too long");
      }
      return read.call(this, at, little);
    };
    Object.defineProperty(DataView.prototype, name, { value: guarded });
  }
  const Plain = Array;
  const Fixed = function (...items: unknown[]) {
    if (items.length !== 1 || typeof items[0] !== "number") return Plain.from(items);
    const [length] = items;
    if (!(length <= MAX_ELEMENTS)) throw new RangeError(`a list would have ${length} entries`);
    return Object.preventExtensions(new Plain(length).fill(undefined));
  };
  Object.setPrototypeOf(Fixed, Plain);
  Object.defineProperty(Fixed, "prototype", { value: Plain.prototype });
  Object.defineProperty(globalThis, "Array", { value: Fixed });
}
