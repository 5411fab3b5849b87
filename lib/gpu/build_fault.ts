// What is wrong with a kernel that does not build, said at the place where WGSL has it.

/**
 * Resolves to the fault of a build, or to undefined.
 *
 * @param name the kernel
 * @param scope the error scope that was open while it was built
 * @param files texts that were joined to the module, one newline between them
 */
export async function buildFault(
  name: string,
  module: GPUShaderModule,
  scope: Promise<GPUError | null>,
  files: readonly string[],
): Promise<Error | undefined> {
  const [error, { messages }] = await Promise.all([scope, module.getCompilationInfo()]);
  const first = messages.find(({ type }) => type === "error");
  if (!first) {
    return error
      ? new Error(`internal: kernel "${name}" does not build: ${error.message}`)
      : undefined;
  }
  let file = `kernels/${name}.wgsl`;
  let line = first.lineNum;
  for (const [i, text] of files.entries()) {
    const lines = text.split("\n").length;
    if (line <= lines) break;
    line -= lines;
    file = `kernels/${name}.wgsl, part ${i + 1}`;
  }
  return new Error(`${file}:${line}:${first.linePos}: ${plainMessage(first.message)}`);
}

/** A compiler's message in one line, without the drawing of the source that Deno adds. */
function plainMessage(message: string): string {
  const lines = message.split("\n").map((line) => line.trim());
  const told = lines.filter((line) => line !== "" && !/^(┌|│|=|\d+ │)/.test(line));
  const detail = lines.map((line) => /^│\s*\^+ (.*)/.exec(line)?.[1]).find(Boolean);
  const text = told.join(" ").replace(/^Shader ('.*?' )?(parsing|validation) error: /, "");
  return detail && !text.includes(detail) ? `${text} (${detail})` : text;
}
