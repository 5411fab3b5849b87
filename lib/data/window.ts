// Windowing: which stored values become black and which white. CT presets are in Hounsfield units
// (the usual ones of radiology teaching); the formulas are those of DICOM PS3.3 C.11.2.1.2.

import { UsageError } from "../errors.ts";

/** Grey from `center - width / 2` (black) to `center + width / 2` (white), in rescaled values. */
export interface Window {
  center: number;
  width: number;
}

/** The curves between black and white that DICOM knows (VOI LUT Function). */
export type WindowShape = "LINEAR" | "LINEAR_EXACT" | "SIGMOID";

/** Windows for CT by name, in Hounsfield units. */
export const WINDOW_PRESETS: Readonly<Record<string, Window>> = {
  lung: { center: -600, width: 1500 },
  mediastinum: { center: 50, width: 350 },
  soft: { center: 50, width: 400 },
  abdomen: { center: 50, width: 400 },
  liver: { center: 30, width: 150 },
  bone: { center: 400, width: 1800 },
  spine: { center: 50, width: 250 },
  brain: { center: 40, width: 80 },
  stroke: { center: 40, width: 40 },
  subdural: { center: 75, width: 215 },
  angio: { center: 300, width: 600 },
};

/** What a user asked for: a window, or one of the two that are measured on the picture. */
export type WindowChoice =
  | { kind: "given"; window: Window; preset?: string }
  | { kind: "auto" | "full" };

const WINDOW_HELP = `Give center/width, as in --window -600/1500, "auto" (percentiles), "full" ` +
  `(all values) or a preset for CT: ${Object.keys(WINDOW_PRESETS).join(", ")}`;

/**
 * The window a user names: `{center, width}`, "C/W", a preset, "auto" or "full".
 *
 * @throws {UsageError} If it is none of these, or its width is not positive
 */
export function parseWindow(option: string | Window): WindowChoice {
  if (typeof option !== "string") {
    const { center, width } = option;
    if (!Number.isFinite(center) || !Number.isFinite(width) || width <= 0) {
      throw new UsageError(
        `Cannot use window ${center}/${width}: center and width are finite, width is positive`,
        { help: WINDOW_HELP },
      );
    }
    return { kind: "given", window: { center, width } };
  }
  const word = option.trim().toLowerCase();
  if (word === "auto" || word === "full") return { kind: word };
  if (Object.hasOwn(WINDOW_PRESETS, word)) {
    return { kind: "given", window: WINDOW_PRESETS[word], preset: word };
  }
  const [, center, width] = /^([+-]?\d+(?:\.\d+)?)\s*\/\s*(\d+(?:\.\d+)?)$/.exec(word) ?? [];
  if (width !== undefined && Number(width) > 0) {
    return { kind: "given", window: { center: Number(center), width: Number(width) } };
  }
  throw new UsageError(`Cannot use window ${JSON.stringify(option)}: it is no known window`, {
    help: WINDOW_HELP,
  });
}

/** A window in use, and who chose it. */
export interface UsedWindow extends Window {
  /**
   * "option" given by the user, "preset NAME", "file" stored in it, "percentiles" TAIL_PERCENT of
   * the values at either end left out, "range" all values.
   */
  from: string;
  shape: WindowShape;
}

/**
 * The window for some values: the choice, else the file's own, else percentiles.
 *
 * @param skip a stored value that is not part of the picture
 * @returns undefined if the window would be measured and all values are equal
 */
export function chooseWindow(
  choice: WindowChoice | undefined,
  own: (Window & { shape: WindowShape }) | undefined,
  values: ArrayLike<number>,
  scale: Scale,
  skip?: number,
): UsedWindow | undefined {
  if (choice?.kind === "given") {
    const from = choice.preset ? `preset ${choice.preset}` : "option";
    return { ...choice.window, shape: "LINEAR_EXACT", from };
  }
  if (!choice && own) return { ...own, from: "file" };
  const full = choice?.kind === "full";
  const window = (full ? fullWindow : percentileWindow)(values, scale, skip);
  return window && { ...window, shape: "LINEAR_EXACT", from: full ? "range" : "percentiles" };
}

/** The share of values, in percent, that an automatic window leaves below black and above white. */
export const TAIL_PERCENT = 0.5;

/** Most values that percentiles are taken of; larger pictures are sampled at equal distances. */
const MAX_SAMPLES = 1_000_000;

/**
 * The window between the TAIL_PERCENT and 100 - TAIL_PERCENT percentiles of `slope · v + intercept`
 * over the finite values; all values if these percentiles are equal.
 *
 * @param skip a stored value that is not part of the picture, such as padding
 * @returns undefined if the values are constant or none is finite
 */
export function percentileWindow(
  values: ArrayLike<number>,
  scale: Scale,
  skip?: number,
): Window | undefined {
  const stride = values.length <= MAX_SAMPLES ? 1 : Math.ceil(values.length / MAX_SAMPLES) | 1;
  const sample = new Float64Array(Math.ceil(values.length / stride));
  let n = 0;
  for (let i = 0; i < values.length; i += stride) {
    if (values[i] !== skip && Number.isFinite(values[i])) sample[n++] = values[i];
  }
  const sorted = sample.subarray(0, n).sort();
  const at = (percent: number) => sorted[Math.round((n - 1) * percent / 100)];
  return between(at(TAIL_PERCENT), at(100 - TAIL_PERCENT), scale) ??
    fullWindow(values, scale, skip);
}

/** The window from the smallest to the largest finite value; undefined if they are equal. */
export function fullWindow(
  values: ArrayLike<number>,
  scale: Scale,
  skip?: number,
): Window | undefined {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    if (v === skip || !Number.isFinite(v)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return between(low, high, scale);
}

function between(low: number, high: number, { slope, intercept }: Scale): Window | undefined {
  const [a, b] = [slope * low + intercept, slope * high + intercept];
  const width = Math.abs(b - a);
  return width > 0 && Number.isFinite(width) ? { center: (a + b) / 2, width } : undefined;
}

/** Stored value → meaningful value: `slope · v + intercept`. */
export interface Scale {
  slope: number;
  intercept: number;
}

/**
 * Stored values → grey bytes: 0 at or below the window's lower end, 255 at or above its upper end,
 * between them straight (LINEAR ends half a unit earlier on both sides, as DICOM defines it) or as
 * `255 / (1 + exp(-4 (v - center) / width))` (SIGMOID). Not a number becomes 0.
 *
 * @param invert whether small values are to be white
 */
export function applyWindow(
  values: ArrayLike<number>,
  { slope, intercept }: Scale,
  { center, width }: Window,
  shape: WindowShape = "LINEAR_EXACT",
  invert = false,
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(values.length);
  const linear = shape === "LINEAR";
  // LINEAR below a width of 1 is not defined: a step.
  const span = linear ? Math.max(width - 1, 0) : width;
  const low = (linear ? center - 0.5 : center) - span / 2;
  for (let i = 0; i < out.length; i++) {
    const v = slope * values[i] + intercept;
    const t = shape === "SIGMOID"
      ? 1 / (1 + Math.exp(-4 * (v - center) / width))
      : (v - low) / span;
    const grey = t >= 1 ? 255 : t > 0 ? Math.round(255 * t) : 0;
    out[i] = invert ? 255 - grey : grey;
  }
  return out;
}
