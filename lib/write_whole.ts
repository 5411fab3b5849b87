// Files that appear whole or not at all: written beside the target, synced, renamed.

/**
 * Writes a file so that its name never holds half of it.
 *
 * @throws What the file system says; the unfinished file is removed
 */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const part = `${path}.part.tmp`;
  try {
    const file = await Deno.open(part, { write: true, create: true, truncate: true });
    try {
      let bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      while (bytes.length > 0) bytes = bytes.subarray(await file.write(bytes));
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(part, path);
  } catch (error) {
    await Deno.remove(part).catch((gone) => {
      if (!(gone instanceof Deno.errors.NotFound)) throw gone;
    });
    throw error;
  }
}
