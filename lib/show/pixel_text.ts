// Captions in pictures of plain pixels: small letters of five by nine pixels, drawn without a font, so that equal
// captions give equal bytes on every machine.

import type { Picture } from "./png.ts";

const [WIDTH, HEIGHT] = [5, 9];

const A_TO_M = [
  "..... #.... ..... ....# ..... ..##. ..... #.... ..#.. ...#. #.... .##.. .....",
  "..... #.... ..... ....# ..... .#... ..... #.... ..... ..... #.... ..#.. .....",
  ".###. ####. .#### .#### .###. ####. .#### ####. .##.. ..##. #..#. ..#.. ##.#.",
  "....# #...# #.... #...# #...# .#... #...# #...# ..#.. ...#. #.#.. ..#.. #.#.#",
  ".#### #...# #.... #...# ##### .#... #...# #...# ..#.. ...#. ##... ..#.. #.#.#",
  "#...# #...# #.... #...# #.... .#... #...# #...# ..#.. ...#. #.#.. ..#.. #.#.#",
  ".#### ####. .#### .#### .#### .#... .#### #...# .###. ...#. #..#. .###. #.#.#",
  "..... ..... ..... ..... ..... ..... ....# ..... ..... ...#. ..... ..... .....",
  "..... ..... ..... ..... ..... ..... .###. ..... ..... .##.. ..... ..... .....",
];
const N_TO_Z = [
  "..... ..... ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... .....",
  "..... ..... ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... .....",
  "####. .###. ####. .#### #.##. .#### ####. #...# #...# #...# #...# #...# #####",
  "#...# #...# #...# #...# ##..# #.... .#... #...# #...# #.#.# .#.#. #...# ...#.",
  "#...# #...# #...# #...# #.... .###. .#... #...# #...# #.#.# ..#.. #...# ..#..",
  "#...# #...# #...# #...# #.... ....# .#... #...# .#.#. #.#.# .#.#. #...# .#...",
  "#...# .###. ####. .#### #.... ####. ..##. .#### ..#.. .#.#. #...# .#### #####",
  "..... ..... #.... ....# ..... ..... ..... ..... ..... ..... ..... ....# .....",
  "..... ..... #.... ....# ..... ..... ..... ..... ..... ..... ..... .###. .....",
];

/** Whether a letter has ink at a pixel. */
function inked(letter: string, x: number, y: number): boolean {
  const index = letter.charCodeAt(0) - 97;
  const rows = index < 13 ? A_TO_M : N_TO_Z;
  return letter !== " " && rows[y][index % 13 * (WIDTH + 1) + x] === "#";
}

/**
 * A line of text in dark on white, `scale` pixels for each of the letters' own.
 *
 * @throws {RangeError} If there is anything but a to z and spaces, or nothing
 */
export function pixelText(text: string, scale = 2): Picture {
  if (!/^[a-z ]+$/.test(text)) {
    throw new RangeError(`Cannot write "${text}" in pixels: give letters a to z and spaces`);
  }
  const width = (text.length * (WIDTH + 1) - 1) * scale;
  const height = HEIGHT * scale;
  const rgb = new Uint8Array(width * height * 3).fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const column = Math.floor(x / scale);
      const letter = text[Math.floor(column / (WIDTH + 1))];
      const within = column % (WIDTH + 1);
      if (within === WIDTH || !inked(letter, within, Math.floor(y / scale))) continue;
      rgb.fill(40, (y * width + x) * 3, (y * width + x + 1) * 3);
    }
  }
  return { width, height, rgb };
}

/**
 * Pictures below each other on white, each under its caption.
 *
 * @throws {RangeError} If there is no picture, or a caption is not of letters a to z and spaces
 */
export function captioned(
  parts: readonly { caption: string; picture: Picture }[],
  gap = 4,
): Picture {
  if (parts.length === 0) throw new RangeError("Cannot caption pictures: there are none");
  const all = parts.flatMap(({ caption, picture }) => [pixelText(caption), picture]);
  const width = Math.max(...all.map((picture) => picture.width));
  const height = all.reduce((n, picture) => n + picture.height, gap * (all.length - 1));
  const rgb = new Uint8Array(width * height * 3).fill(255);
  let top = 0;
  for (const picture of all) {
    const row = picture.width * 3;
    for (let y = 0; y < picture.height; y++) {
      rgb.set(picture.rgb.subarray(y * row, (y + 1) * row), (top + y) * width * 3);
    }
    top += picture.height + gap;
  }
  return { width, height, rgb };
}
