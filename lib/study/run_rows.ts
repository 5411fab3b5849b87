// The rows of a run record, as they are written and read back.

import type { Json } from "./config.ts";

/** One evaluation on one split. */
export interface EvaluationRow {
  step: number;
  /** `[a-z0-9-]` */
  benchmark: string;
  version: number;
  scorer: string;
  split: string;
  weights: "raw" | "ema";
  n: number;
  value: number;
  low: number;
  high: number;
  options?: Json;
  items?: readonly ItemRow[];
}

/** One answered item. Items that share an image are named `image/question`. */
export interface ItemRow {
  item: string;
  promptSha256?: string;
  answer?: string;
  target?: string;
  /** Absent if the item failed; then `error` says why. */
  score?: number;
  error?: string;
}

/** One probe result; a later one of the same key replaces it. */
export interface ProbeRow {
  site: string;
  step: number;
  target: string;
  kind: "linear" | "dense";
  /** `none` for the probe itself, or the name of its control. */
  control: string;
  split: string;
  value: number;
  low: number;
  high: number;
  n: number;
}

/** A saved state of the model. */
export interface CheckpointRow {
  step: number;
  /** Relative to the run folder. */
  path: string;
  bytes: number;
  sha256: string;
}

/** A file made from the run. */
export interface ArtifactRow {
  path: string;
  kind: string;
  sha256: string;
  madeFrom: string;
}
