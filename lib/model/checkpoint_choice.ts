// Which tensors of a model are packed when it is quantized: the matrices that its layers multiply by, unless
// patterns say otherwise. Tables that are looked up, norms and biases are not packed.

import { nearestName } from "../data/edit_distance.ts";
import { UsageError } from "../errors.ts";
import { namePattern } from "./name_pattern.ts";

/** Packed unless told otherwise: attention and feed-forward of decoder and image encoder, and the connector. */
const USUAL =
  /^((und|gen|vit)\.layers\.\d+\.(attn\.[qkvo]|mlp\.(gate|up|down|fc1|fc2))|connector\.fc[12])\.weight$/;

/** Packed only when `only` names them: the other matrices that inputs are multiplied by. */
const POSSIBLE = /^(text\.head|vit\.embed\.patch|latent\.(in|out|time\.fc1|time\.fc2))\.weight$/;

/** Patterns of our names, as lib/model/name_pattern.ts reads them. */
export interface Choice {
  /** Packed instead of the usual ones. */
  only?: readonly string[];
  /** Kept as they are, whatever else is said. */
  keep?: readonly string[];
}

/**
 * The names to pack.
 *
 * @param names our names of all tensors
 * @throws {UsageError} If a pattern matches no name, or `only` names nothing that can be packed
 */
export function choosePacked(names: readonly string[], { only, keep = [] }: Choice): Set<string> {
  const possible = names.filter((name) => USUAL.test(name) || POSSIBLE.test(name));
  const kept = keep.flatMap((pattern) => matches(pattern, names));
  const chosen = only
    ? chooseMatrices("pack", names, only)
    : possible.filter((name) => USUAL.test(name));
  return new Set(chosen).difference(new Set(kept));
}

/**
 * The matrices of linear layers that patterns name, in the order of the names: those that {@link choosePacked} can pack.
 *
 * @param what is to be done with them, for errors: "pack"
 * @throws {UsageError} If a pattern matches no name, or nothing but tables, norms and biases
 */
export function chooseMatrices(
  what: string,
  names: readonly string[],
  patterns: readonly string[],
): string[] {
  const chosen = new Set(patterns.flatMap((pattern) => {
    const all = matches(pattern, names);
    const found = all.filter((name) => USUAL.test(name) || POSSIBLE.test(name));
    if (found.length > 0) return found;
    throw new UsageError(`Cannot ${what} ${pattern}: ${all[0]} is no matrix of a linear layer`, {
      help: "tables, norms and biases stay as they are; leave the pattern out",
    });
  }));
  return names.filter((name) => chosen.has(name));
}

function matches(pattern: string, names: readonly string[]): string[] {
  const found = names.filter(namePattern(pattern));
  if (found.length > 0) return found;
  const places = new Set(
    names.map((name) => name.replace(/\.\d+\./g, ".*.").replace(/\.\w+$/, "")),
  );
  const near = nearestName(pattern, places);
  throw new UsageError(`Cannot choose tensors by ${pattern}: no name begins so`, {
    help: near
      ? `did you mean ${near}?`
      : "such as gen, und.layers.0-3, vit.layers.*.mlp.{fc1,fc2}",
  });
}
