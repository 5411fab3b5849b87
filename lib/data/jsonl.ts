// JSON lines, read as a stream: memory is bounded by the longest allowed line, and whatever is
// wrong is reported with its line number.

import { InputError } from "../errors.ts";

/** Longest line read, in bytes. */
const MAX_LINE_BYTES = 1_000_000;

/** One line: its number from 1, and its value or what is wrong with it. */
export type JsonLine =
  | { line: number; value: unknown; error?: undefined }
  | { line: number; error: InputError };

/**
 * The lines of a file that are not blank. A byte order mark at the start and CR before LF are
 * ignored. A line that is not UTF-8 or not JSON comes as its error, so that the caller may go on.
 *
 * @throws {InputError} If the file cannot be read, or a line has more than 1 MB
 */
export async function* readJsonLines(path: string): AsyncGenerator<JsonLine> {
  let line = 0;
  for await (const bytes of readLines(path)) {
    line++;
    const where = `${path} line ${line}`;
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: line > 1 }).decode(bytes);
    } catch (cause) {
      yield { line, error: new InputError(`Cannot read ${where}: it is not UTF-8`, { cause }) };
      continue;
    }
    if (text.trim() === "") continue;
    try {
      yield { line, value: JSON.parse(text) };
    } catch (cause) {
      const error = new InputError(
        `Cannot read ${where}: it is not JSON: ${(cause as Error).message}`,
        { cause, help: "Correct or remove the line" },
      );
      yield { line, error };
    }
  }
}

/** Lines as bytes, without their LF. */
async function* readLines(path: string): AsyncGenerator<Uint8Array> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    let rest = new Uint8Array(0);
    let line = 1;
    const chunk = new Uint8Array(65_536);
    for (let n = await file.read(chunk); n !== null; n = await file.read(chunk)) {
      const bytes = new Uint8Array(rest.length + n);
      bytes.set(rest);
      bytes.set(chunk.subarray(0, n), rest.length);
      let start = 0;
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
        checkLength(end - start, path, line);
        yield bytes.subarray(start, end);
        start = end + 1;
        line++;
      }
      rest = bytes.slice(start);
      checkLength(rest.length, path, line);
    }
    if (rest.length > 0) yield rest;
  } finally {
    file.close();
  }
}

function checkLength(bytes: number, path: string, line: number) {
  if (bytes > MAX_LINE_BYTES) {
    throw new InputError(
      `Cannot read ${path} line ${line}: it has more than ${MAX_LINE_BYTES} bytes`,
    );
  }
}
