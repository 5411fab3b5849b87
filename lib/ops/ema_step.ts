// One step of an exponential moving average, in place.

import code from "../../kernels/ema_step.wgsl" with { type: "text" };
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("ema_step", { main: code, inPlace: ["average"] });

/**
 * `average ← decay · average + (1 - decay) · x`, in place. Not differentiable.
 *
 * @param average (…)
 * @param x (…) the same shape
 * @param decay in [0, 1]
 * @param guard (1) if it is not finite, nothing changes: the factor of an update that did nothing
 * @throws {TypeError} If the shapes differ
 * @throws {RangeError} If the decay is out of range
 */
export function emaStep(average: Tensor, x: Tensor, decay: number, guard?: Tensor): void {
  if (average.shape.join() !== x.shape.join()) {
    throw new TypeError(
      `Cannot average (${x.shape.join(", ")}) into (${average.shape.join(", ")})`,
    );
  }
  if (!(decay >= 0 && decay <= 1)) {
    throw new RangeError(`Cannot average with decay ${decay}: it must be in [0, 1]`);
  }
  const params = { decay, share: 1 - decay };
  const always = guard ? undefined : Tensor.from(x.gpu, [1], [1]);
  runPointwise(kernel, x.gpu, { x, average }, x.size, {
    scalars: { guard: (guard ?? always)! },
    params,
  });
  always?.dispose();
}
