// Checks and runs a notebook the way its reader would meet it: types over all cells, then the real Deno kernel.

import { findPython } from "../lib/cli/python.ts";

const RUNNER = new URL("run_notebook.py", import.meta.url).pathname;
const CONFIG = new URL("../deno.json", import.meta.url).pathname;

/** A check's or run's end: exit code and all it said. */
export interface Outcome {
  code: number;
  text: string;
}

interface Cell {
  cell_type: string;
  source: string | string[];
}

/** The code cells of a notebook as one module; comments tell the cells apart. */
export function moduleOf(notebook: string): string {
  const { cells } = JSON.parse(notebook) as { cells: Cell[] };
  const code = cells
    .filter((cell) => cell.cell_type === "code")
    .map((cell, i) => `// cell ${i + 1}\n${[cell.source].flat().join("")}\n;`);
  return `${code.join("\n")}\nexport {};\n`;
}

/** Type-checks a notebook: its cells become one module beside it, so that imports resolve as in the kernel. */
export async function checkNotebook(path: string): Promise<Outcome> {
  const file = path.replace(/\.ipynb$/, ".cells.tmp.ts");
  await Deno.writeTextFile(file, moduleOf(await Deno.readTextFile(path)));
  try {
    return await outcomeOf("deno", ["check", "--quiet", "--config", CONFIG, file]);
  } finally {
    await Deno.remove(file);
  }
}

/** Runs a notebook in the Deno kernel; `output` keeps a copy with outputs. */
export async function runNotebook(
  path: string,
  options: { output?: string; timeoutSeconds?: number } = {},
): Promise<Outcome> {
  const python = await findPython();
  if (!python) {
    throw new Error("Cannot run notebooks: no Python with nbclient (run `deno task setup`)");
  }
  const flags = ["--deno", Deno.execPath(), "--timeout", String(options.timeoutSeconds ?? 300)];
  if (options.output) flags.push("--output", options.output);
  return await outcomeOf(python, [RUNNER, path, ...flags]);
}

async function outcomeOf(command: string, args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** A notebook file's text from its code cells. */
export function notebookText(cells: string[]): string {
  return JSON.stringify({
    cells: cells.map((source, i) => ({
      cell_type: "code",
      id: `cell-${i}`,
      execution_count: null,
      metadata: {},
      outputs: [],
      source,
    })),
    metadata: { kernelspec: { name: "deno", display_name: "Deno", language: "typescript" } },
    nbformat: 4,
    nbformat_minor: 5,
  });
}
