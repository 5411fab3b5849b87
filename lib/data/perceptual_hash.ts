// What a picture looks like in 320 bits: the signs of its lowest cosine frequencies. Copies that were
// compressed again, resized or cut by a pixel keep nearly all of them (Zauner 2010, section 3.2.1).

import type { Image } from "./resize.ts";

/** Side of the grey picture that frequencies are taken of. */
const SIDE = 32;
/** Bits to search by. */
const COARSE = 64;
/** Bits to tell apart what is alike only from afar, such as slices of two heads. */
const FINE = 256;

/** Words of 32 bits in a hash: first those to search by, then those to confirm. */
export const HASH_WORDS = { coarse: COARSE / 32, fine: FINE / 32, all: (COARSE + FINE) / 32 };

/** Standard deviation of grey, of 255, below which a picture shows nothing that could be compared. */
const FLAT = 2;

/**
 * The hash of a picture: each bit is whether a coefficient of the cosine transform of its 32 × 32 grey
 * version is above the median of its group. The groups are the lowest 64 and the lowest 256
 * frequencies, the mean left out.
 *
 * @param image (h, w, 3)
 * @returns words as {@link HASH_WORDS} counts them, or undefined if the picture is flat
 */
export function perceptualHash(image: Image): Uint32Array<ArrayBuffer> | undefined {
  const grey = shrink(image);
  const mean = grey.reduce((sum, v) => sum + v, 0) / grey.length;
  const variance = grey.reduce((sum, v) => sum + (v - mean) ** 2, 0) / grey.length;
  if (variance < FLAT ** 2) return undefined;
  const spectrum = cosines(grey);
  const low = ORDER.map((place) => spectrum[place]);
  const words = new Uint32Array(HASH_WORDS.all);
  writeBits(words.subarray(0, HASH_WORDS.coarse), low.slice(0, COARSE));
  writeBits(words.subarray(HASH_WORDS.coarse), low);
  return words;
}

function writeBits(words: Uint32Array, values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b);
  const median = (sorted[values.length / 2 - 1] + sorted[values.length / 2]) / 2;
  values.forEach((value, i) => {
    // Neighbouring frequencies, which flip together, lie in different words.
    const word = i % words.length;
    if (value > median) words[word] |= 1 << Math.floor(i / words.length);
  });
}

/** Grey, averaged over the cells of a {@link SIDE} × {@link SIDE} grid; a cell may end within a pixel. */
function shrink({ width, height, data }: Image): Float64Array {
  const line = new Float64Array(width);
  const across = spans(width);
  const down = spans(height);
  const grey = new Float64Array(SIDE * SIDE);
  const cells = new Float64Array(SIDE);
  let row = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0, i = 3 * y * width; x < width; x++, i += 3) {
      line[x] = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
    }
    for (let cell = 0; cell < SIDE; cell++) {
      const { from, to } = across[cell];
      const first = Math.floor(from);
      // Of the pixels from the first to the last, what lies before and behind the cell is taken away.
      let sum = -(from - first) * line[first];
      let x = first;
      for (; x < to; x++) sum += line[x];
      cells[cell] = sum - (x - to) * line[x - 1];
    }
    for (let r = row; r < SIDE && down[r].from < y + 1; r++) {
      const { from, to } = down[r];
      const share = Math.min(to, y + 1) - Math.max(from, y);
      if (share <= 0) row = r + 1;
      else for (let cell = 0; cell < SIDE; cell++) grey[r * SIDE + cell] += share * cells[cell];
    }
  }
  const area = (width / SIDE) * (height / SIDE);
  return grey.map((v) => v / area);
}

/** Where each of {@link SIDE} cells of n pixels begins and ends, in pixels. */
function spans(n: number): { from: number; to: number }[] {
  return Array.from(
    { length: SIDE },
    (_, i) => ({ from: i * n / SIDE, to: (i + 1) * n / SIDE }),
  );
}

/** cos(π k (2 i + 1) / 2 n) at [k, i]. */
const BASIS = Float64Array.from(
  { length: SIDE * SIDE },
  (_, at) => Math.cos(Math.PI * Math.floor(at / SIDE) * (2 * (at % SIDE) + 1) / (2 * SIDE)),
);

/** Places of the {@link FINE} lowest frequencies but the mean: by their sum, then by row. */
const ORDER: readonly number[] = Array.from({ length: SIDE * SIDE }, (_, i) => i).slice(1)
  .sort((a, b) => rank(a) - rank(b) || a - b).slice(0, FINE);

function rank(place: number): number {
  return Math.floor(place / SIDE) + place % SIDE;
}

/** One more than the highest frequency in {@link ORDER}. */
const KEPT = 1 + Math.max(...ORDER.map((at) => Math.max(at % SIDE, Math.floor(at / SIDE))));

/** Cosine transform (type II) over both axes, unscaled, of the frequencies below {@link KEPT}. */
function cosines(grey: Float64Array): Float64Array {
  const half = new Float64Array(SIDE * SIDE);
  for (let y = 0; y < SIDE; y++) {
    for (let k = 0; k < KEPT; k++) {
      let sum = 0;
      for (let x = 0; x < SIDE; x++) sum += grey[y * SIDE + x] * BASIS[k * SIDE + x];
      half[y * SIDE + k] = sum;
    }
  }
  const spectrum = new Float64Array(SIDE * SIDE);
  for (let j = 0; j < KEPT; j++) {
    for (let k = 0; k < KEPT - j; k++) {
      let sum = 0;
      for (let y = 0; y < SIDE; y++) sum += half[y * SIDE + k] * BASIS[j * SIDE + y];
      spectrum[j * SIDE + k] = sum;
    }
  }
  return spectrum;
}

/** How many of the bits of two words differ. */
export function differingBits(a: number, b: number): number {
  let x = a ^ b;
  x -= (x >>> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
