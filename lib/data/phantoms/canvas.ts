// What a look paints on: colour planes plus the coverage that says where organ and lesion are.
// Lesions change a pixel only where they cover it, so the lesion-free twin is equal elsewhere.

import type { Coverage } from "./anatomy.ts";
import type { Draws } from "../draws.ts";

/** A picture in the making. */
export interface Canvas extends Coverage {
  /** (size, size, 3) in [0, 1]; what lies outside is cut at the end. */
  rgb: Float32Array;
  /** True for bright lesions, false for dark ones. */
  bright: boolean;
  /** How far a lesion moves a pixel towards its full colour, 0 … 1. */
  amplitude: number;
}

/** Paints pixel i, at column u and row v of the unit frame. */
export type Paint = (u: number, v: number, i: number) => void;

/** Draws what varies between pictures of one modality and returns how to paint their pixels. */
export type Look = (canvas: Canvas, draws: Draws) => Paint;

/** 0 below `from`, 1 above `to`, smooth between; `from` may be the larger. */
export function ramp(x: number, from: number, to: number): number {
  const t = Math.min(1, Math.max(0, (x - from) / (to - from)));
  return t * t * (3 - 2 * t);
}

/** A bell of height 1 around 0. */
export function bell(x: number, width: number): number {
  const z = x / width;
  return Math.exp(-0.5 * z * z);
}

/** From a to b by share t. */
export function mix(a: number, b: number, t: number): number {
  return a + (b - a) * t;
}

/** A smooth random field in about [-1, 1]: three waves of random direction and phase. */
export function waves(draws: Draws, frequency: number): (u: number, v: number) => number {
  const angle = draws.uniform(0, Math.PI);
  const k = [0, 1, 2].map((n) => angle + n * 1.05 + draws.uniform(-0.3, 0.3));
  const [ax, bx, cx] = k.map((a) => frequency * Math.cos(a));
  const [ay, by, cy] = k.map((a) => frequency * Math.sin(a));
  const [ap, bp, cp] = k.map(() => draws.uniform(0, 6.2832));
  return (u, v) =>
    (Math.sin(ax * u + ay * v + ap) + Math.sin(bx * u + by * v + bp) +
      Math.sin(cx * u + cy * v + cp)) / 2;
}
