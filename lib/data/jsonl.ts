// JSON lines, read as a stream: memory is bounded by the longest allowed line, and whatever is
// wrong is reported with its line number. Also the short words for what went wrong with a file or its JSON.

import { InputError } from "../errors.ts";

/** Why a system call failed, without the system's number, the call and the path: "Is a directory". */
export function fileReason(cause: unknown): string {
  return (cause as Error).message.replace(/ \(os error \d+\).*$/s, "");
}

/**
 * Why JSON.parse refused a text, on one line: "Unterminated string, line 3 column 4".
 *
 * @param place whether to tell line and column, where they are known
 */
export function jsonReason(cause: unknown, place = true): string {
  return (cause as Error).message.replace(/\s+/g, " ")
    .replace(/^(Unexpected token .*?), (.*) is not valid JSON$/, "$1 in $2")
    .replace(
      /(?: in JSON| after JSON)? at position \d+(?: \((line \d+ column \d+)\))?$/,
      (_, at) => place && at ? `, ${at}` : "",
    );
}

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
      const help = "Save the file as UTF-8";
      yield {
        line,
        error: new InputError(`Cannot read ${where}: it is not UTF-8`, { cause, help }),
      };
      continue;
    }
    if (text.trim() === "") continue;
    try {
      yield { line, value: JSON.parse(text) };
    } catch (cause) {
      const error = new InputError(
        `Cannot read ${where}: it is not JSON: ${jsonReason(cause, false)}`,
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
    throw unreadable(path, cause);
  }
  try {
    let rest = new Uint8Array(0);
    let line = 1;
    const chunk = new Uint8Array(65_536);
    const read = () =>
      file.read(chunk).catch((cause) => {
        throw unreadable(path, cause);
      });
    for (let n = await read(); n !== null; n = await read()) {
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

function unreadable(path: string, cause: unknown): InputError {
  return new InputError(`Cannot read ${path}: ${fileReason(cause)}`, {
    cause,
    help: "Put a readable text file there, with one JSON object per line",
  });
}

function checkLength(bytes: number, path: string, line: number) {
  if (bytes > MAX_LINE_BYTES) {
    throw new InputError(
      `Cannot read ${path} line ${line}: it has more than ${MAX_LINE_BYTES} bytes`,
      { help: "Write one JSON object per line and shorten its texts" },
    );
  }
}
