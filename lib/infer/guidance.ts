// Classifier-free guidance on text and image (reference: `_forward_flow`): how the velocities of the three
// contexts become one.

import { UsageError } from "../errors.ts";

/** The ways to bring a guided velocity back to the size of the unguided one. */
export const RENORMS = ["global", "channel", "text_channel"] as const;
export type Renorm = typeof RENORMS[number];

/** Strength and extent of guidance. Names in brackets are the reference's. */
export interface Guidance {
  /** Text scale a; guidance is on above 1 [cfg_text_scale]. Default: 4. */
  textGuidance?: number;
  /** Image scale b; counts only where text guidance is on [cfg_img_scale]. Default: 1.5. */
  imageGuidance?: number;
  /** Guidance acts where `low < t ≤ high`, t being the shifted timestep [cfg_interval]. Default: [0.4, 1]. */
  interval?: readonly [low: number, high: number];
  /** [cfg_renorm_type] Default: global. */
  renorm?: Renorm;
  /** Smallest factor of the renormalization; 1 switches it off [cfg_renorm_min]. Default: 0. */
  renormMin?: number;
}

/** Guidance with nothing left open. */
export type FullGuidance = Required<Guidance>;

/** Fills in the defaults. @throws {UsageError} Naming the option that makes no sense, and the repair */
export function fullGuidance(options: Guidance): FullGuidance {
  const full: FullGuidance = {
    textGuidance: options.textGuidance ?? 4,
    imageGuidance: options.imageGuidance ?? 1.5,
    interval: options.interval ?? [0.4, 1],
    renorm: options.renorm ?? "global",
    renormMin: options.renormMin ?? 0,
  };
  const { interval: [low, high], renormMin } = full;
  const refuse = (what: string, help: string): never => {
    throw new UsageError(`Cannot guide with ${what}`, { help });
  };
  for (const name of ["textGuidance", "imageGuidance"] as const) {
    if (!(Number.isFinite(full[name]) && full[name] >= 0)) {
      refuse(
        `${name} ${full[name]}`,
        "1 is no guidance, 4 is usual for text and 1.5 to 2 for images",
      );
    }
  }
  if (!(low >= 0 && low <= high && high <= 1)) {
    refuse(`the interval ${low} to ${high}`, "give two timesteps, 0 ≤ low ≤ high ≤ 1");
  }
  if (!RENORMS.includes(full.renorm)) {
    refuse(`renorm "${full.renorm}"`, `there are ${RENORMS.join(", ")}`);
  }
  if (!(renormMin >= 0 && renormMin <= 1)) {
    refuse(`renormMin ${renormMin}`, "give a factor from 0 to 1; 1 switches renormalization off");
  }
  return full;
}

/** True if guidance acts at a timestep; bounds are compared in f32, as the reference does. */
export function guidedAt(t: number, { interval: [low, high] }: FullGuidance): boolean {
  return t > Math.fround(low) && t <= Math.fround(high);
}

const TINY = 1e-8;

/**
 * The guided velocity. With v, u, c the velocities of the main context, of that without the last text and of
 * that without images, `g = u + a (v − u)`, and
 *
 * - `text_channel`: `g ← g · r` per token, then `c + b (g − c)` if b > 1
 * - `global`, `channel`: `y = c + b (g − c)` if b > 1, else g; then `y · r` over all, or per token
 *
 * `r = clamp(|v| / (|·| + 1e-8), renormMin, 1)`, norms over what r is shared by. A text scale of at most 1
 * leaves v as it is.
 *
 * @param v,u,c (tokens, width); `c` is needed only for b > 1
 * @param width numbers per token
 */
export function guide(
  v: Float32Array,
  u: Float32Array | undefined,
  c: Float32Array | undefined,
  width: number,
  options: FullGuidance,
): Float32Array {
  const { textGuidance: a, imageGuidance: b, renorm, renormMin } = options;
  if (a <= 1 || !u) return v;
  const y = u.map((from, i) => from + a * (v[i] - from));
  const towardsImage = () => {
    if (b > 1 && c) y.forEach((g, i) => y[i] = c[i] + b * (g - c[i]));
  };
  if (renorm !== "text_channel") towardsImage();
  const span = renorm === "global" ? v.length : width;
  for (let start = 0; start < v.length; start += span) {
    const ratio = normOf(v, start, span) / (normOf(y, start, span) + TINY);
    const factor = Math.min(1, Math.max(renormMin, ratio));
    for (let i = start; i < start + span; i++) y[i] *= factor;
  }
  if (renorm === "text_channel") towardsImage();
  return y;
}

function normOf(x: Float32Array, start: number, count: number): number {
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += x[i] * x[i];
  return Math.sqrt(sum);
}
