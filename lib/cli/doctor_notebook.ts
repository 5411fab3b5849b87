// Whether Jupyter's own window would find the Deno kernel. The tests bring their own description of it, so this
// is worth knowing but nothing depends on it.

import { findPython, type RunQuietly } from "./python.ts";

const LIST = `import json
from jupyter_client.kernelspec import KernelSpecManager
specs = KernelSpecManager().get_all_specs()
print(json.dumps({name: spec["spec"]["argv"][0] for name, spec in specs.items()}))`;

/** What Jupyter knows of the Deno kernel, in words; undefined where there is no Jupyter to ask. */
export async function installedKernel(run: RunQuietly): Promise<string | undefined> {
  const python = await findPython(run);
  if (python === undefined) return undefined;
  const listed = await run(python, ["-c", LIST]);
  if (listed?.code !== 0) {
    return `cannot be looked up: ${listed?.stderr.trim().split("\n").at(-1) ?? "no answer"}`;
  }
  const kernels: Record<string, string> = JSON.parse(listed.stdout);
  if (!kernels.deno) return "not installed; for notebooks in Jupyter: deno jupyter --install";
  return `installed, runs ${kernels.deno}`;
}
