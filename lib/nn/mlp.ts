// Feed-forward blocks.

import { linear } from "../ops/linear.ts";
import { paysToStack, stackedLinear } from "../ops/stacked_linear.ts";
import { swigluHalves } from "../ops/swiglu_halves.ts";
import { geluTanh, swiglu } from "../ops/unary.ts";
import type { Tensor } from "../tensor.ts";
import type { Parameters } from "./parameters.ts";
import { keepSite, type Site } from "./site.ts";

/**
 * Gated feed-forward of Qwen2: `down(silu(gate(x)) · up(x))`, no biases (Shazeer 2020, SwiGLU). A recorded pass makes
 * gate and up in one product.
 *
 * @param x (N, C)
 * @param p `gate.weight`, `up.weight` (F, C), `down.weight` (C, F)
 * @param site called with `act` (N, F)
 * @returns (N, C)
 */
export function swigluMlp(x: Tensor, p: Parameters, site: Site = keepSite): Tensor {
  const weights = [p.get("gate.weight"), p.get("up.weight")];
  const act = paysToStack(x, weights)
    ? swigluHalves(stackedLinear(x, weights))
    : swiglu(linear(x, weights[0]), linear(x, weights[1]));
  return linear(site("act", act), p.get("down.weight"));
}

/**
 * Two-layer feed-forward with biases: `fc2(gelu_tanh(fc1(x)))`, as in SigLIP and the connector.
 *
 * @param x (N, C)
 * @param p `fc1.weight` (F, C), `fc1.bias` (F), `fc2.weight` (C', F), `fc2.bias` (C')
 * @returns (N, C')
 */
export function geluMlp(x: Tensor, p: Parameters, site: Site = keepSite): Tensor {
  const hidden = geluTanh(linear(x, p.get("fc1.weight"), p.get("fc1.bias")));
  return linear(site("act", hidden), p.get("fc2.weight"), p.get("fc2.bias"));
}
