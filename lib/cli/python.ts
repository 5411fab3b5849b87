// The Python that runs notebooks: the system's first, because distributions install nbclient for that one while
// the first python3 on PATH may be another.

/** Where a Python with the notebook runner may be, best first. */
export const PYTHONS = [
  "/usr/bin/python3",
  "/usr/local/bin/python3",
  "/opt/homebrew/bin/python3",
  "python3",
] as const;

/** What the notebook runner imports. */
export const NOTEBOOK_MODULES = ["nbclient", "nbformat", "jupyter_client"] as const;

/** Runs a command; undefined when there is no such program. */
export type RunQuietly = (
  command: string,
  args: readonly string[],
  env?: Record<string, string>,
) => Promise<{ code: number; stdout: string; stderr: string } | undefined>;

/** Runs a command of this system. Needs `--allow-run` for it. */
export const runQuietly: RunQuietly = async (command, args, env) => {
  try {
    const child = new Deno.Command(command, {
      args: [...args],
      stdin: "null",
      ...(env && { env }),
    });
    const { code, stdout, stderr } = await child.output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  } catch (error) {
    // A program that is not there cannot be allowed either: Deno names both.
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable) {
      return undefined;
    }
    throw error;
  }
};

/** The first Python that can import the notebook runner's modules, or undefined. */
export async function findPython(run: RunQuietly = runQuietly): Promise<string | undefined> {
  const names = NOTEBOOK_MODULES.map((name) => `"${name}"`).join(",");
  // find_spec only looks: importing takes ten times as long.
  const look =
    `import importlib.util as u, sys; sys.exit(not all(u.find_spec(n) for n in (${names})))`;
  for (const python of PYTHONS) {
    if ((await run(python, ["-c", look]))?.code === 0) return python;
  }
  return undefined;
}
