// Functions of one value: a table of formulas and slopes, run by one kernel each way. Scaling, and SwiGLU,
// the gated pair in use, have kernels of their own.

import backwardCode from "../../kernels/unary_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/unary.wgsl" with { type: "text" };
import gelu from "../../kernels/common/gelu_tanh.wgsl" with { type: "text" };
import scaleCode from "../../kernels/scale.wgsl" with { type: "text" };
import sigmoid from "../../kernels/common/sigmoid.wgsl" with { type: "text" };
import swigluBackwardCode from "../../kernels/swiglu_backward.wgsl" with { type: "text" };
import swigluCode from "../../kernels/swiglu.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const op = (formula: string) => `fn op(x: vec4f) -> vec4f { return ${formula}; }`;

/** Value and slope of each function, as the parts its two kernels take. */
export const UNARY = {
  silu: {
    value: [op("x * sigmoid(x)"), sigmoid],
    slope: [op("sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))"), sigmoid],
  },
  geluTanh: {
    value: [op("gelu_tanh(x)"), gelu, sigmoid],
    slope: [op("gelu_tanh_slope(x)"), gelu, sigmoid],
  },
  softplus: {
    value: [op("max(x, vec4f(0.0)) + log(1.0 + exp(-abs(x)))")],
    slope: [op("sigmoid(x)"), sigmoid],
  },
  exp: { value: [op("exp(x)")], slope: [op("exp(x)")] },
  abs: { value: [op("abs(x)")], slope: [op("sign(x)")] },
} as const;

const forward = new Kernel("unary", { main: forwardCode, parts: UNARY.silu.value });
const backward = new Kernel("unary_backward", { main: backwardCode, parts: UNARY.silu.slope });
const scaleKernel = new Kernel("scale", { main: scaleCode });
const swigluForward = new Kernel("swiglu", { main: swigluCode, parts: [sigmoid] });
const swigluBackward = new Kernel("swiglu_backward", {
  main: swigluBackwardCode,
  parts: [sigmoid],
});

function unary(x: Tensor, { value, slope }: (typeof UNARY)[keyof typeof UNARY]): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  runPointwise(forward, x.gpu, { x, y }, x.size, { parts: value });
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(x.gpu, x.shape);
    runPointwise(backward, x.gpu, { x, dy, dx }, x.size, { parts: slope });
    return [dx];
  });
}

/**
 * Sigmoid-weighted linear unit `x · σ(x)`.
 *
 * @param x (…)
 * @returns (…)
 */
export function silu(x: Tensor): Tensor {
  return unary(x, UNARY.silu);
}

/**
 * GELU, tanh form: `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
 *
 * @param x (…)
 * @returns (…)
 */
export function geluTanh(x: Tensor): Tensor {
  return unary(x, UNARY.geluTanh);
}

/**
 * Softplus `log(1 + eˣ)`, which is `-log σ(-x)`; right to 10⁻⁷ where it is near 0.
 *
 * @param x (…)
 * @returns (…)
 */
export function softplus(x: Tensor): Tensor {
  return unary(x, UNARY.softplus);
}

/**
 * Exponential `eˣ`; infinite above 88.
 *
 * @param x (…)
 * @returns (…)
 */
export function exp(x: Tensor): Tensor {
  return unary(x, UNARY.exp);
}

/**
 * Absolute value `|x|`, with slope 0 at 0.
 *
 * @param x (…)
 * @returns (…)
 */
export function abs(x: Tensor): Tensor {
  return unary(x, UNARY.abs);
}

/**
 * Scaling `y = s · x` by a number `s`.
 *
 * @param x (…)
 * @returns (…)
 */
export function scale(x: Tensor, s: number): Tensor {
  return record(scaled(x, s), [x], (dy) => [scaled(dy, s)]);
}

function scaled(x: Tensor, s: number): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  runPointwise(scaleKernel, x.gpu, { x, y }, x.size, { params: { s } });
  return y;
}

/**
 * Gated unit `silu(gate) · up` (Shazeer 2020, eq. 6).
 *
 * @param gate (…)
 * @param up (…) the same shape
 * @returns (…)
 * @throws {TypeError} If the shapes differ
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  if (gate.shape.join() !== up.shape.join()) {
    throw new TypeError(`Cannot gate (${up.shape.join(", ")}) with (${gate.shape.join(", ")})`);
  }
  const { gpu } = gate;
  const y = Tensor.empty(gpu, gate.shape);
  runPointwise(swigluForward, gpu, { gate, up, y }, gate.size);
  return record(y, [gate, up], (dy) => {
    const dgate = Tensor.empty(gpu, gate.shape);
    const dup = Tensor.empty(gpu, gate.shape);
    runPointwise(swigluBackward, gpu, { gate, up, dy, dgate, dup }, gate.size);
    return [dgate, dup];
  });
}
