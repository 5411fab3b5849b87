// Several linear maps of one input in one product: their weights are stacked, which costs little beside the product.

import { isRecording, needsGrad, recordAll } from "../autograd.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { adapterOf } from "./adapter.ts";
import { columnSum } from "./column_sum.ts";
import { product } from "./matmul_launch.ts";
import { stackRows, unstackRows } from "./stack_rows.ts";

/**
 * Whether {@link stackedLinear} pays: the pass is recorded and every weight is f32 and carries no adapter. At inference
 * weights may be packed and rows few, where copying weights costs as much as the product.
 */
export function paysToStack(x: Tensor, weights: readonly Tensor[]): boolean {
  return isRecording() && [x, ...weights].some(needsGrad) &&
    weights.every((weight) => weight.dtype === "f32" && !adapterOf(weight));
}

/**
 * `y = [x W_0ᵀ + b_0 | x W_1ᵀ + b_1 | …]`: the linear maps of {@link linear} side by side, as one product.
 *
 * Gradients: `dx = dy W`, `dW = dyᵀ x`, `db = Σ_rows dy` of the stacked weights, each weight given its rows.
 *
 * @param x (…, in)
 * @param weights (out_i, in) of f32
 * @param biases (out_i), all or none
 * @returns (…, Σ out_i)
 * @throws {TypeError} If a shape or dtype does not fit
 */
export function stackedLinear(
  x: Tensor,
  weights: readonly Tensor[],
  biases: readonly Tensor[] = [],
): Tensor {
  checkStack(x, weights, biases);
  const inner = x.dim(-1);
  const leading = x.shape.slice(0, -1);
  const rows = sizeOf(leading);
  const weight = stackRows(weights);
  const columns = weight.dim(0);
  const bias = biases.length > 0 ? stackRows(biases) : undefined;
  const layout = { transposeA: false, transposeB: true };
  const flat = product(x, weight, { rows, columns, inner, ...layout, bias });
  const y = flat.alias([...leading, columns]);
  flat.dispose();
  bias?.dispose();
  const count = weights.length;
  const shapes = [...weights, ...biases].map(({ shape }) => shape);
  recordAll([y], [x, ...weights, ...biases], ([given], needs) => {
    const dy = given!;
    const [needX, needW, needB] = [needs[0], needs.slice(1, 1 + count), needs.slice(1 + count)];
    const back = { transposeA: false, transposeB: false };
    const dx = needX
      ? product(dy, weight, { rows, columns: inner, inner: columns, ...back })
      : null;
    const dweights = parts(needW, shapes.slice(0, count), () => {
      const turned = { transposeA: true, transposeB: false };
      return product(dy, x, { rows: columns, columns: inner, inner: rows, ...turned });
    });
    return [dx, ...dweights, ...parts(needB, shapes.slice(count), () => columnSum(dy))];
  }, [weight]);
  return y;
}

/** The rows of a stacked gradient that somebody needs; it is made only then. */
function parts(
  needs: readonly boolean[],
  shapes: readonly (readonly number[])[],
  make: () => Tensor,
): (Tensor | null)[] {
  return needs.includes(true) ? unstackRows(make(), shapes, needs) : needs.map(() => null);
}

function checkStack(x: Tensor, weights: readonly Tensor[], biases: readonly Tensor[]): void {
  const inner = x.shape.at(-1);
  const named = (t: Tensor) => `(${t.shape.join(", ")}) ${t.dtype}`;
  const fits = (w: Tensor) => w.shape.length === 2 && w.shape[1] === inner && w.dtype === "f32";
  const wrong = weights.find((w) => !fits(w));
  if (x.dtype !== "f32" || inner === undefined || weights.length === 0 || wrong) {
    throw new TypeError(
      `Cannot map a ${named(x)} tensor by stacked weights of ${weights.map(named).join(", ")}: ` +
        "expected f32 (…, in) and (out, in) of f32",
    );
  }
  const fit = biases.every((b, i) =>
    b.shape.join() === `${weights[i]?.shape[0]}` && b.dtype === "f32"
  );
  if (fit && (biases.length === 0 || biases.length === weights.length)) return;
  throw new TypeError(
    `Cannot add biases of ${biases.map(named).join(", ")} to stacked weights of ` +
      weights.map(named).join(", "),
  );
}
