// Where things are: organ outline and lesions in the unit frame u, v ∈ [-1, 1] (v down), the same for
// every modality and every image size, and their coverage of the pixels.

import type { Draws } from "../draws.ts";
import { type Factors, QUADRANTS, type Shape } from "./factors.ts";

/** Centre and radius in the unit frame. */
export interface Spot {
  u: number;
  v: number;
  radius: number;
}

/** The geometry behind one phantom. */
export interface Anatomy {
  shape: Shape;
  /** Centre of the organ. */
  u: number;
  v: number;
  /** Turn in radians and size relative to the shape's standard. */
  turn: number;
  scale: number;
  lesions: readonly Spot[];
}

/** Radii of one, two and three lesions: several share the room of one. */
const SMALL = [0.115, 0.095, 0.085];
const LARGE = [0.22, 0.16, 0.135];

/** Samples the geometry that the factors leave open. */
export function drawAnatomy(draws: Draws, { shape, lesion }: Factors): Anatomy {
  if (lesion === null) return { ...drawPose(draws, shape), lesions: [] };
  const quadrant = QUADRANTS.indexOf(lesion.quadrant);
  const right = quadrant % 2 === 1 ? 1 : -1, down = quadrant >= 2 ? 1 : -1;
  let radius = (lesion.size === "large" ? LARGE : SMALL)[lesion.count - 1] *
    draws.uniform(0.97, 1.06);
  // Spots keep clear of the image's axes and of each other, and lie in the organ but for a rim. Some
  // poses leave no room for that: try others, and should many fail, shrink all spots by up to a fifth
  // and let them overlap the organ's outline more.
  const least = 0.8 * radius;
  for (let poses = 1, rim = 0.6;; poses++) {
    const organ = drawPose(draws, shape);
    const lesions: Spot[] = [];
    for (let tries = 0; tries < 60 && lesions.length < lesion.count; tries++) {
      const u = right * draws.uniform(0.04 + radius, 0.66);
      const v = down * draws.uniform(0.04 + radius, 0.66);
      const inside = outline(organ, u, v) < (rim - 1) * radius;
      const apart = lesions.every((s) => Math.hypot(s.u - u, s.v - v) > 2 * radius + 0.09);
      if (inside && apart) lesions.push({ u, v, radius });
    }
    if (lesions.length === lesion.count) return { ...organ, lesions };
    if (poses % 12 === 0) {
      radius = Math.max(least, 0.95 * radius);
      rim += 0.1;
    }
  }
}

function drawPose(draws: Draws, shape: Shape): Omit<Anatomy, "lesions"> {
  return {
    shape,
    u: draws.uniform(-0.06, 0.06),
    v: draws.uniform(-0.06, 0.06),
    turn: draws.uniform(-0.35, 0.35),
    scale: draws.uniform(0.94, 1.06),
  };
}

/** Approximate signed distance to the organ's outline, negative inside. */
export function outline(organ: Omit<Anatomy, "lesions">, u: number, v: number): number {
  const cos = Math.cos(organ.turn) / organ.scale, sin = Math.sin(organ.turn) / organ.scale;
  const du = u - organ.u, dv = v - organ.v;
  return SHAPE_DISTANCE[organ.shape](cos * du + sin * dv, cos * dv - sin * du) * organ.scale;
}

function ellipseDistance(x: number, y: number, a: number, b: number): number {
  const k = Math.sqrt((x / a) ** 2 + (y / b) ** 2);
  const slope = Math.sqrt((x / (a * a)) ** 2 + (y / (b * b)) ** 2);
  return slope < 1e-9 ? -Math.min(a, b) : k * (k - 1) / slope;
}

const SHAPE_DISTANCE: Record<Shape, (x: number, y: number) => number> = {
  disc: (x, y) => Math.sqrt(x * x + y * y) - 0.64,
  ellipse: (x, y) => ellipseDistance(x, y, 0.83, 0.48),
  // An ellipse with a round bite out of its upper edge.
  bean: (x, y) => {
    const bite = 0.32 - Math.sqrt(x * x + (y + 0.52) ** 2);
    return Math.max(ellipseDistance(x, y - 0.02, 0.8, 0.6), bite);
  },
  // A triangle standing on its base, corners rounded.
  wedge: (x, y) => {
    const round = 0.14;
    const side = 0.866 * Math.abs(x) - 0.5 * y - 0.44 + round;
    const base = y - 0.52 + round;
    if (side > 0 && base > 0) return Math.sqrt(side * side + base * base) - round;
    return Math.max(side, base) - round;
  },
};

/** Soft coverage of pixels, 0 … 1, and the signed distance to the outline, all (size, size). */
export interface Coverage {
  size: number;
  /** Signed distance to the organ's outline in the unit frame. */
  distance: Float32Array;
  organ: Float32Array;
  lesion: Float32Array;
}

/** Draws the geometry onto a grid of pixels; edges are about a pixel wide. */
export function cover(anatomy: Anatomy, size: number): Coverage {
  const distance = new Float32Array(size * size);
  const organ = new Float32Array(size * size);
  const lesion = new Float32Array(size * size);
  const pixel = 2 / size;
  const cos = Math.cos(anatomy.turn) / anatomy.scale, sin = Math.sin(anatomy.turn) / anatomy.scale;
  const shapeDistance = SHAPE_DISTANCE[anatomy.shape];
  for (let row = 0, i = 0; row < size; row++) {
    const v = (row + 0.5) * pixel - 1, dv = v - anatomy.v;
    for (let column = 0; column < size; column++, i++) {
      const du = (column + 0.5) * pixel - 1 - anatomy.u;
      const d = anatomy.scale * shapeDistance(cos * du + sin * dv, cos * dv - sin * du);
      distance[i] = d;
      organ[i] = Math.min(1, Math.max(0, 0.5 - d / pixel));
    }
  }
  for (const spot of anatomy.lesions) {
    const from = (x: number) => Math.max(0, Math.floor((x - spot.radius + 1) / pixel - 1));
    const to = (x: number) => Math.min(size, Math.ceil((x + spot.radius + 1) / pixel + 1));
    for (let row = from(spot.v); row < to(spot.v); row++) {
      for (let column = from(spot.u); column < to(spot.u); column++) {
        const du = (column + 0.5) * pixel - 1 - spot.u, dv = (row + 0.5) * pixel - 1 - spot.v;
        const c = 0.5 - (Math.sqrt(du * du + dv * dv) - spot.radius) / pixel;
        const i = row * size + column;
        lesion[i] = Math.max(lesion[i], Math.min(1, Math.max(0, c)));
      }
    }
  }
  return { size, distance, organ, lesion };
}

/** Where coverage is at least one half, as 0 and 1. */
export function maskOf(coverage: Float32Array): Uint8Array {
  return Uint8Array.from(coverage, (c) => c >= 0.5 ? 1 : 0);
}
