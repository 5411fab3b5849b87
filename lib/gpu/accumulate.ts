// Sums of gradients: the only arithmetic autograd itself needs.

import addCode from "../../kernels/add.wgsl" with { type: "text" };
import accumulateCode from "../../kernels/accumulate.wgsl" with { type: "text" };
import { runPointwise } from "./pointwise.ts";
import { Kernel } from "./kernel.ts";
import { Tensor } from "../tensor.ts";

const inPlace = new Kernel("accumulate", { main: accumulateCode, inPlace: ["y"] });
const apart = new Kernel("add", { main: addCode });

/** `a + b`, in the memory of `a` where nobody else holds it. Both handles are used up. */
export function accumulate(a: Tensor, b: Tensor): Tensor {
  if (a.isSole) {
    runPointwise(inPlace, a.gpu, { x: b, y: a }, a.size);
    b.dispose();
    return a;
  }
  if (b.isSole) return accumulate(b, a);
  const sum = Tensor.empty(a.gpu, a.shape);
  runPointwise(apart, a.gpu, { x: a, y: b, z: sum }, a.size);
  a.dispose();
  b.dispose();
  return sum;
}
