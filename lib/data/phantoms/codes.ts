// Answers as pictures: one pattern of 4 × 4 flat blocks per modality, each channel a row of a Hadamard
// matrix, so that any two codes differ by a full swing in half of their values.

import { InputError } from "../../errors.ts";
import { MODALITIES, type Modality } from "./factors.ts";

/** Values of a code are ± this. */
export const CODE_LEVEL = 0.8;

/** Root mean square difference between any two codes. */
export const CODE_DISTANCE = CODE_LEVEL * Math.SQRT2;

/** Row r, column c of the 16 × 16 Hadamard matrix (Sylvester 1867): the parity of r & c. */
function hadamard(r: number, c: number): number {
  let bits = r & c, sign = 1;
  for (; bits > 0; bits >>= 1) if (bits & 1) sign = -sign;
  return sign;
}

/** The 48 block values of each code, (4, 4, 3) row-major. */
const BLOCKS: readonly Float32Array[] = MODALITIES.map((_, k) =>
  Float32Array.from({ length: 48 }, (_, i) => {
    const block = Math.floor(i / 3), channel = i % 3;
    // Rows 1 … 15 in another order per channel, no row twice in a channel; row 0 is constant.
    return CODE_LEVEL * hadamard(1 + (k * [1, 8, 4][channel]) % 15, block);
  })
);

/**
 * The picture that stands for a modality.
 *
 * @param size rows and columns, a multiple of 4
 * @returns (size, size, 3), every value ± CODE_LEVEL
 * @throws {InputError} If the size is not a multiple of 4
 */
export function answerCode(modality: Modality, size: number): Float32Array {
  requireBlocks(size);
  const blocks = BLOCKS[MODALITIES.indexOf(modality)];
  const image = new Float32Array(size * size * 3);
  for (let i = 0; i < size * size; i++) {
    const row = Math.floor(4 * Math.floor(i / size) / size),
      column = Math.floor(4 * (i % size) / size);
    for (let c = 0; c < 3; c++) image[3 * i + c] = blocks[(4 * row + column) * 3 + c];
  }
  return image;
}

/** What a picture says when read as a code. */
export interface DecodedCode {
  /** The nearest code. */
  modality: Modality;
  /** Root mean square difference to it; 0 for a perfect picture. */
  distance: number;
  /** How much farther the second nearest code is; 0 when undecided. */
  margin: number;
}

/**
 * Reads the nearest code from a picture.
 *
 * @param image (size, size, 3), size a multiple of 4
 * @throws {InputError} If the image is not of such a size
 */
export function decodeCode(image: Float32Array): DecodedCode {
  const size = Math.sqrt(image.length / 3);
  requireBlocks(size);
  const distances = MODALITIES.map((modality) => {
    const code = answerCode(modality, size);
    let sum = 0;
    for (let i = 0; i < image.length; i++) sum += (image[i] - code[i]) ** 2;
    return Math.sqrt(sum / image.length);
  });
  const [best, second] = distances.map((_, k) => k).sort((a, b) => distances[a] - distances[b]);
  return {
    modality: MODALITIES[best],
    distance: distances[best],
    margin: distances[second] - distances[best],
  };
}

function requireBlocks(size: number) {
  if (!Number.isInteger(size) || size < 4 || size % 4 !== 0) {
    throw new InputError(`Cannot use a code picture of size ${size}: it is not a multiple of 4`);
  }
}
