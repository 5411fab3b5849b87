// Every kernel family on the adapter at hand, against plain f64: what `deno task doctor` runs to tell a good
// driver from one that computes something else.

import type { Gpu } from "../gpu/device.ts";
import { product, type ProductOptions } from "../ops/matmul_launch.ts";
import type { MatmulChoice } from "../ops/matmul_config.ts";
import { canRun, tileName } from "../ops/matmul_tile.ts";
import { Tensor, tidy } from "../tensor.ts";
import type { Row } from "./compare.ts";
import { FAMILY_CASES } from "./family_cases.ts";
import { checkCase, FORWARD, normals, relativeRow, variantsOf } from "./family_check.ts";
import { matmulReference } from "./family_references.ts";
import { checkUpdates, UPDATES } from "./family_updates.ts";

/** The families, in the order they are checked. */
export const FAMILIES = ["matmul", ...Object.keys(FAMILY_CASES), UPDATES];

/** Rows of each family as they are known: outputs and gradients, errors relative to the largest value. */
export async function* checkFamilies(gpu: Gpu): AsyncGenerator<{ family: string; rows: Row[] }> {
  yield { family: "matmul", rows: await checkMatmul(gpu) };
  const variants = variantsOf(gpu);
  for (const [family, { cases, variants: several }] of Object.entries(FAMILY_CASES)) {
    const rows: Row[] = [];
    for (const [name, device] of several ? variants : [["", gpu] as const]) {
      for (const test of cases) rows.push(...await checkCase(device, family, name, test));
    }
    yield { family, rows };
  }
  for (const [, device] of variants) device.buffers.trim();
  yield { family: UPDATES, rows: await checkUpdates(gpu) };
}

/** The matmul kernels this adapter can run, the naive one first. */
function matmulChoices(gpu: Gpu): MatmulChoice[] {
  const one = { rowBlocks: 1, columnBlocks: 1, splits: 1 };
  const choices: MatmulChoice[] = [
    { kernel: "naive", ...one },
    { kernel: "register", ...one },
    { kernel: "register", rowBlocks: 2, columnBlocks: 2, splits: 2 },
    { kernel: "subgroup", ...one, rowBlocks: 8 },
    { kernel: "subgroup", ...one, rowBlocks: 4 },
    { kernel: "tiled", ...one, side: 8 },
    { kernel: "tiled", rowBlocks: 2, columnBlocks: 2, side: 16, splits: 2 },
  ];
  return choices.filter((choice) => canRun(gpu, choice));
}

/** Each matmul kernel in the layouts that training uses, at sizes that no tile divides. */
async function checkMatmul(gpu: Gpu): Promise<Row[]> {
  const [rows, columns, inner] = [67, 41, 150];
  const rowsOut: Row[] = [];
  for (const [transposeA, transposeB] of [[false, false], [false, true], [true, false]]) {
    const host = [normals(rows * inner, "a"), normals(inner * columns, "b")];
    const exact = host.map((values) => Float64Array.from(values));
    const layout = [transposeA, transposeB];
    const want = matmulReference(exact, [rows, columns, inner], layout);
    for (const choice of matmulChoices(gpu)) {
      const options: ProductOptions = { rows, columns, inner, transposeA, transposeB, choice };
      const c = tidy(() => {
        const [a, b] = host.map((values) => Tensor.from(gpu, values, [values.length]));
        return product(a, b, options);
      });
      const name = `${tileName(choice)} ${layout.map((t) => t ? "T" : "N").join("")}`;
      rowsOut.push(relativeRow("matmul", name, await c.floats(), want, FORWARD));
      c.dispose();
    }
  }
  return rowsOut;
}
