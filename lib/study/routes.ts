// Which parts of a model a loss can teach: the gradient that reaches each group of parameters. In a plain
// text→image sample nothing flows to the image encoder, since no image token is in context.

import { readAll, type Tensor, tidy } from "../tensor.ts";
import { sumSquares } from "../ops/global_norm.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { type Objective, runObjective } from "../train/objective.ts";

/** Groups of parameters, in the order information flows. */
export const PARAMETER_GROUPS = [
  { name: "vit", holds: (p: string) => p.startsWith("vit.") },
  { name: "connector", holds: (p: string) => p.startsWith("connector.") },
  { name: "embeddings", holds: (p: string) => p === "text.embed.weight" },
  { name: "und layers", holds: (p: string) => p.startsWith("und.") },
  { name: "gen layers", holds: (p: string) => p.startsWith("gen.") },
  { name: "latent in", holds: (p: string) => /^latent\.(in|time)\./.test(p) },
  { name: "text head", holds: (p: string) => p === "text.head.weight" },
  { name: "flow head", holds: (p: string) => p.startsWith("latent.out.") },
] as const;

/** L2 norm of the gradient by group name; exactly 0 where no gradient arrives. */
export type RouteNorms = Record<string, number>;

/** Differentiates an objective and sums squared gradients over groups. The model stays as it is. */
export async function gradientRoutes(model: UniMedVL, objective: Objective): Promise<RouteNorms> {
  const squares = tidy(() => {
    const { gradients } = runObjective(model, objective);
    const out = new Map<string, Tensor>();
    for (const { name, holds } of PARAMETER_GROUPS) {
      const group: Tensor[] = [];
      for (const [parameter, weight] of model.parameters.entries()) {
        const gradient = gradients.get(weight);
        if (gradient && holds(parameter)) group.push(gradient);
      }
      if (group.length > 0) out.set(name, sumSquares(group));
    }
    return out;
  });
  const values = await readAll([...squares.values()]);
  const norms: RouteNorms = {};
  for (const { name } of PARAMETER_GROUPS) norms[name] = 0;
  [...squares.keys()].forEach((name, i) => norms[name] = Math.sqrt(values[i][0]));
  for (const tensor of squares.values()) tensor.dispose();
  return norms;
}
