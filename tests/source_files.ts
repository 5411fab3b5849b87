// The repository's own source files, for tests about the sources themselves.

const ROOT = new URL("../", import.meta.url);

/** A file by its path from the repository root. */
export interface SourceFile {
  path: string;
  text: string;
}

/** Files below a folder of the repository whose names end in `suffix`, sorted by path; none if it is absent. */
export async function sourceFiles(folder: string, suffix = ".ts"): Promise<SourceFile[]> {
  const found: SourceFile[] = [];
  const walk = async (dir: string) => {
    for await (const entry of Deno.readDir(new URL(dir, ROOT))) {
      const path = `${dir}/${entry.name}`;
      if (entry.isDirectory) await walk(path);
      else if (path.endsWith(suffix)) {
        found.push({ path, text: await Deno.readTextFile(new URL(path, ROOT)) });
      }
    }
  };
  try {
    await walk(folder);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) || found.length > 0) throw error;
  }
  return found.sort((a, b) => a.path < b.path ? -1 : 1);
}
