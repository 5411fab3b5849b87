// Reverse-mode differentiation over tensors. An op calls `record(y, inputs, backward)`; `backward(loss)`
// walks the recorded graph from the loss and frees activations as it passes them.

import { accumulate } from "./gpu/accumulate.ts";
import { type BackwardFn, type Node, Tensor, tidy } from "./tensor.ts";

export type { BackwardFn, Node } from "./tensor.ts";

let silenced = 0;

/** Runs `fn` without recording. */
export function noGrad<T>(fn: () => T): T {
  silenced++;
  try {
    return fn();
  } finally {
    silenced--;
  }
}

/** True outside `noGrad`. */
export function isRecording(): boolean {
  return silenced === 0;
}

/** True if a gradient flows to this tensor. */
export function needsGrad(x: Tensor): boolean {
  return x.requiresGrad || x.node !== undefined;
}

/** Remembers how `y` came from `inputs`; does nothing when no input needs a gradient. */
export function record(y: Tensor, inputs: readonly Tensor[], backward: BackwardFn): Tensor {
  if (silenced > 0 || !inputs.some(needsGrad)) return y;
  if (held) hold(y, inputs, held);
  else y.node = { inputs, backward };
  return y;
}

/**
 * An op's gradient where it has several outputs: takes dL/dy for each, `null` for outputs that the losses do not
 * depend on; the rest is as for {@link BackwardFn}.
 */
export type BackwardAllFn = (
  dys: readonly (Tensor | null)[],
  needs: readonly boolean[],
) => (Tensor | null)[];

/**
 * Remembers how several outputs came from inputs in one go; does nothing when no input needs a gradient.
 *
 * @param saved what `backward` reads besides the inputs, given up by the caller: freed once the gradient is made, or now
 *   where nothing is remembered. Outputs are freed before, so of those it takes an alias.
 */
export function recordAll(
  ys: readonly Tensor[],
  inputs: readonly Tensor[],
  backward: BackwardAllFn,
  saved: readonly Tensor[] = [],
): void {
  if (silenced > 0 || !inputs.some(needsGrad)) {
    for (const x of saved) x.dispose();
    return;
  }
  if (held) {
    for (const x of saved) x.dispose();
    for (const y of ys) hold(y, inputs, held);
    return;
  }
  for (const x of saved) x.node = { inputs: [], backward: () => [] };
  const arrived: (Tensor | null)[] = ys.map(() => null);
  // A tensor without elements stands between: it is passed after every output that has a gradient.
  const { gpu } = ys[0];
  const knot = Tensor.empty(gpu, [0]);
  record(knot, [...saved, ...inputs], (_, needs) => {
    const dys = arrived.map((dy) => dy?.alias() ?? null);
    arrived.forEach((dy, i) => {
      dy?.dispose();
      arrived[i] = null;
    });
    return [...saved.map(() => null), ...backward(dys, needs.slice(saved.length))];
  });
  ys.forEach((y, i) => {
    record(y, [knot], (dy) => {
      arrived[i] = dy.alias().keep();
      return [Tensor.empty(gpu, [0])];
    });
  });
}

/** What a checkpointed function reads while it runs for its values alone. */
interface Held {
  inputs: ReadonlySet<Tensor>;
  /** Parameters that it read, in order. */
  parameters: Set<Tensor>;
}

let held: Held | undefined;

/** In place of the history of what a checkpointed function makes, which is forgotten. */
const HELD: Node = {
  inputs: [],
  backward: () => {
    throw new Error("internal: backward through values of a checkpointed function");
  },
};

function hold(y: Tensor, inputs: readonly Tensor[], { inputs: given, parameters }: Held): void {
  for (const x of inputs) {
    if (x.node === HELD || given.has(x) || !needsGrad(x)) continue;
    if (x.node) {
      throw new Error(
        `internal: a checkpointed function reads a (${x.shape.join(", ")}) tensor that needs a ` +
          "gradient and is not among its inputs",
      );
    }
    parameters.add(x);
  }
  y.node = HELD;
}

/**
 * `fn(inputs)` without keeping what its gradient needs: `backward` computes it a second time, recorded, when it gets there
 * (Chen et al. 2016, "Training deep nets with sublinear memory cost"). Kept in between are the inputs and the results.
 * Values and gradients are those of `fn` itself, bit by bit, but for the order of sums where three or more gradients
 * arrive at one value, some of them from outside.
 *
 * @param fn gives the same values whenever it is called; tensors that need a gradient reach it as its inputs or are
 *   parameters. What happens inside cannot be `wanted` from `backward`
 * @returns its results, each a tensor of its own
 */
export function checkpointed(
  fn: (inputs: readonly Tensor[]) => readonly Tensor[],
  inputs: readonly Tensor[],
): Tensor[] {
  if (silenced > 0 || held) return [...fn(inputs)];
  const here: Held = { inputs: new Set(inputs), parameters: new Set() };
  const made = tidy(() => {
    held = here;
    try {
      return fn(inputs).map((y) => ({ y: y.alias(), flows: needsGrad(y) }));
    } finally {
      held = undefined;
    }
  });
  const parameters = [...here.parameters];
  const ys = made.filter(({ flows }) => flows).map(({ y }) => y);
  if (ys.length > 0) {
    recordAll(ys, [...inputs, ...parameters], (dys, needs) => {
      const leaves = inputs.map((x, i) => {
        const leaf = x.alias();
        leaf.requiresGrad = needs[i];
        return leaf;
      });
      const again = fn(leaves).filter((_, i) => made[i].flows);
      const arrived = again.map((_, i) => i).filter((i) => dys[i]);
      const gradients = backward(arrived.map((i) => again[i]), {
        seeds: arrived.map((i) => dys[i]!),
      });
      return [...leaves, ...parameters].map((x) => gradients.get(x) ?? null);
    });
  }
  return made.map(({ y }) => y);
}

/** The same values, cut off: no gradient flows through. */
export function detach(x: Tensor): Tensor {
  return x.alias();
}

/** The same values in another shape. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const from = x.shape;
  return record(x.alias(shape), [x], (dy) => [dy.alias(from)]);
}

/** Marks a tensor as a parameter and takes it out of its scope. */
export function parameter(x: Tensor): Tensor {
  x.requiresGrad = true;
  return x.keep();
}

/** What is left of a graph that was walked. */
const SPENT: Node = {
  inputs: [],
  backward: () => {
    throw new TypeError(
      "Cannot go backward twice through one graph: its activations were freed (see retainGraph)",
    );
  },
};

/** Options of {@link backward}. */
export interface BackwardOptions {
  /** dL/dloss for each loss, default ones. */
  seeds?: readonly Tensor[];
  /** Keep the graph for another pass. Default: activations are freed on the way. */
  retainGraph?: boolean;
  /** Also return gradients of these tensors, which need not be parameters. */
  wanted?: readonly Tensor[];
  /**
   * Takes the gradient of each parameter as soon as nothing more will be added to it, so from the last layers to the
   * first. The gradient is the callee's to dispose of; the map that is returned has only those wanted.
   */
  onGradient?: (parameter: Tensor, gradient: Tensor) => void;
  /** Told before the first step: the parameters that may get a gradient. No others will. */
  onReach?: (parameters: ReadonlySet<Tensor>) => void;
}

/**
 * Gradients of the sum of `losses` with respect to every parameter reached. The graph is used up and its
 * activations are freed, but for the losses and those wanted.
 *
 * @param losses scalars, or any tensors when `seeds` are given
 * @returns gradient by tensor; parameters that the losses do not depend on are absent
 * @throws {TypeError} If a loss is no scalar and has no seed, or its graph was used up before
 */
export function backward(
  losses: Tensor | readonly Tensor[],
  options: BackwardOptions = {},
): Map<Tensor, Tensor> {
  const steps = backwardSteps(losses, options);
  for (let step = steps.next();; step = steps.next()) if (step.done) return step.value;
}

/**
 * {@link backward} in steps, one recorded op each, for work that has something else to do meanwhile. Nothing happens
 * before the first step.
 *
 * @returns the gradients, once all steps are made
 */
export function* backwardSteps(
  losses: Tensor | readonly Tensor[],
  options: BackwardOptions = {},
): Generator<void, Map<Tensor, Tensor>> {
  const roots = losses instanceof Tensor ? [losses] : losses;
  const wanted = new Set(options.wanted ?? []);
  const pending = new Map<Tensor, Tensor>();
  const result = new Map<Tensor, Tensor>();
  roots.forEach((root, i) => {
    const seed = options.seeds?.[i];
    if (!seed && root.size !== 1) {
      throw new TypeError(
        `Cannot start backward at a (${root.shape.join(", ")}) tensor without seeds`,
      );
    }
    const ones = seed ?? Tensor.from(root.gpu, new Float32Array([1]), root.shape);
    add(pending, root, seed ? ones.alias() : ones);
  });

  const order = sorted(roots);
  const { onGradient, onReach } = options;
  onReach?.(new Set(order.filter((x) => x.requiresGrad)));
  const uses = onGradient && usesIn(order);
  for (const y of order) {
    const dy = pending.get(y);
    pending.delete(y);
    const node = y.node;
    if (node && dy) {
      const needs = node.inputs.map(needsGrad);
      const grads = tidy(() => node.backward(dy, needs));
      if (grads.length !== node.inputs.length) {
        throw new Error(`internal: ${grads.length} gradients for ${node.inputs.length} inputs`);
      }
      // An op may return one tensor for several inputs, or one that it was given.
      const taken = new Set([dy, y, ...node.inputs]);
      grads.forEach((dx, i) => {
        if (!dx || !needs[i]) return;
        add(pending, node.inputs[i], taken.has(dx) ? dx.alias() : dx);
        taken.add(dx);
      });
      for (const dx of grads) if (dx && !taken.has(dx)) dx.dispose();
    }
    if (uses) {
      for (const x of node?.inputs ?? []) {
        const left = uses.get(x)! - 1;
        uses.set(x, left);
        // What was computed is told when it is passed: until then it is needed here.
        if (left > 0 || !x.requiresGrad || x.node || wanted.has(x)) continue;
        const dx = pending.get(x);
        pending.delete(x);
        if (dx) onGradient!(x, dx);
      }
    }
    if (dy && wanted.has(y)) result.set(y, dy);
    else if (dy && y.requiresGrad && onGradient) onGradient(y, dy);
    else if (dy && y.requiresGrad) result.set(y, dy);
    else dy?.dispose();
    if (node && !options.retainGraph) {
      if (y.requiresGrad || wanted.has(y) || roots.includes(y)) y.node = SPENT;
      else y.dispose();
    }
    if (node) yield;
  }
  return result;
}

/** How often each tensor is an input of what is ordered. */
function usesIn(order: readonly Tensor[]): Map<Tensor, number> {
  const uses = new Map<Tensor, number>();
  for (const { node } of order) {
    for (const x of node?.inputs ?? []) uses.set(x, (uses.get(x) ?? 0) + 1);
  }
  return uses;
}

function add(pending: Map<Tensor, Tensor>, x: Tensor, dx: Tensor): void {
  if (dx.size !== x.size) {
    throw new Error(
      `internal: gradient (${dx.shape.join(", ")}) for a (${x.shape.join(", ")}) tensor`,
    );
  }
  const before = pending.get(x);
  pending.set(x, before ? accumulate(before, dx) : dx);
}

/** Tensors from the roots to the leaves, each after everything computed from it. */
function sorted(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = [];
  const seen = new Set<Tensor>();
  const stack: { x: Tensor; next: number }[] = [];
  for (const root of roots) {
    if (seen.has(root)) continue;
    seen.add(root);
    stack.push({ x: root, next: 0 });
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const inputs = top.x.node?.inputs ?? [];
      if (top.next === inputs.length) {
        order.push(top.x);
        stack.pop();
        continue;
      }
      const x = inputs[top.next++];
      if (seen.has(x) || !needsGrad(x)) continue;
      seen.add(x);
      stack.push({ x, next: 0 });
    }
  }
  return order.reverse();
}
