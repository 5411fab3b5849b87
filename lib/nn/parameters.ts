// The weights of a model: an ordered map from names to tensors, with views of its parts.

import { parameter } from "../autograd.ts";
import type { Tensor } from "../tensor.ts";

/** Named tensors. A view made with {@link Parameters.sub} shares them under shorter names. */
export class Parameters {
  readonly #all: Map<string, Tensor>;
  readonly #prefix: string;

  constructor(all: Map<string, Tensor> = new Map(), prefix = "") {
    this.#all = all;
    this.#prefix = prefix;
  }

  /** Adds a tensor; it lives until {@link Parameters.dispose}. `trainable` is true by default. */
  add(name: string, tensor: Tensor, trainable = true): void {
    const full = this.#prefix + name;
    if (this.#all.has(full)) throw new Error(`internal: parameter ${full} is added twice`);
    this.#all.set(full, trainable ? parameter(tensor) : tensor.keep());
  }

  /** @throws {TypeError} If there is no such parameter */
  get(name: string): Tensor {
    const tensor = this.#all.get(this.#prefix + name);
    if (!tensor) throw new TypeError(`Cannot find parameter ${this.#prefix + name}`);
    return tensor;
  }

  /** The parameter, or `undefined`. */
  find(name: string): Tensor | undefined {
    return this.#all.get(this.#prefix + name);
  }

  /** Puts a tensor in the place of another, whose memory is given back; trainable if that was. */
  replace(name: string, tensor: Tensor): void {
    const before = this.get(name);
    tensor.requiresGrad = before.requiresGrad;
    this.#all.set(this.#prefix + name, tensor.keep());
    before.dispose();
  }

  /** Takes a tensor out and gives its memory back. */
  remove(name: string): void {
    this.get(name).dispose();
    this.#all.delete(this.#prefix + name);
  }

  /** A view of the parameters whose names start with `prefix` and a dot. */
  sub(prefix: string): Parameters {
    return new Parameters(this.#all, `${this.#prefix}${prefix}.`);
  }

  /** Names (without this view's prefix) and tensors, in the order they were added. */
  *entries(): Generator<[string, Tensor]> {
    for (const [name, tensor] of this.#all) {
      if (name.startsWith(this.#prefix)) yield [name.slice(this.#prefix.length), tensor];
    }
  }

  /** Number of scalars. */
  get count(): number {
    let n = 0;
    for (const [, tensor] of this.entries()) n += tensor.size;
    return n;
  }

  /** Gives all memory back. */
  dispose(): void {
    for (const [, tensor] of this.entries()) tensor.dispose();
  }
}
