// What the user gave a verb: which arguments are images and which are text, images read with their options, text
// from an argument, a flag or stdin. All of it is read and checked before a model is opened.

import { fileReason } from "../../data/jsonl.ts";
import { type Picture, type PictureOptions, readPicture } from "../../data/picture.ts";
import { InputError, UsageError } from "../../errors.ts";
import { type ImageFlagValues, present } from "./flag_groups.ts";
import type { VerbWorld } from "./world.ts";

/** Arguments, told apart. */
export interface SortedArguments {
  /** Paths of images: those of --image, then arguments that are files. */
  paths: string[];
  /** The other arguments. */
  texts: string[];
}

const PATH_LIKE = /^(~|\.{0,2})\/|\.(jpe?g|png|webp|tiff?|dcm|dicom|nii|nii\.gz|gif|bmp|svg)$/i;

/**
 * Tells images from text: an argument that is an existing file is an image, anything else is text.
 *
 * @param named paths given with --image
 * @throws {InputError} If an argument looks like a path and there is no such file
 */
export async function sortArguments(
  args: readonly string[],
  named: readonly string[],
): Promise<SortedArguments> {
  const paths = [...named];
  const texts: string[] = [];
  for (const arg of args) {
    if (await isFile(arg)) paths.push(arg);
    else if (PATH_LIKE.test(arg) && !/\s/.test(arg)) {
      throw new InputError(`Cannot read picture ${arg}: there is no such file`, {
        help: "check the path; a text that looks like a path goes behind --text",
      });
    } else texts.push(arg);
  }
  return { paths, texts };
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false; // no path at all, or a text too long for one: readPicture() says why a path fails
  }
}

/** How pictures are read, by the flags. @throws {UsageError} If --slice is no number */
export function pictureOptions(flags: ImageFlagValues): PictureOptions {
  const options: PictureOptions = present(flags, ["window", "axis", "volume", "frame"]);
  if (flags.slice === undefined) return options;
  const slice = flags.slice === "middle" ? "middle" : Number(flags.slice);
  if (slice !== "middle" && !(Number.isInteger(slice) && slice >= 0)) {
    throw new UsageError(`Cannot read --slice ${flags.slice}: expected a number from 0, or middle`);
  }
  return { ...options, slice };
}

/**
 * Reads pictures in order; `note` gets what was chosen and converted, a line per picture.
 *
 * @throws {InputError} Naming the picture that cannot be read
 */
export async function readPictures(
  paths: readonly string[],
  flags: ImageFlagValues,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<Picture[]> {
  const options = pictureOptions(flags);
  const pictures: Picture[] = [];
  for (const path of paths) {
    signal.throwIfAborted();
    const picture = await readPicture(path, options);
    const said = describePicture(picture);
    if (said) note(`${path}: ${said}`);
    pictures.push(picture);
  }
  return pictures;
}

/** What a user should know of how a picture was read; "" where there was nothing to choose. */
export function describePicture({ format, slice, window, notes }: Picture): string {
  const parts = notes.filter((text) => !text.startsWith("slice "));
  if (slice) parts.unshift(`${slice.axis} slice ${slice.index} of 0 to ${slice.count - 1}`);
  if (window) {
    parts.push(`window ${round(window.center)}/${round(window.width)} (${window.from})`);
  }
  return parts.length > 0 ? `${format}, ${parts.join("; ")}` : "";
}

const round = (value: number) => Number(value.toPrecision(4));

/** Most bytes of text read from stdin. */
const MAX_STDIN_BYTES = 2 ** 20;

/**
 * The text a verb works on: of --text, the one argument that is text, or stdin (for `-`, or where there is none and
 * nobody types).
 *
 * @param what what it is, for errors: "question"
 * @param example a command line that gives it
 * @returns undefined if there is none and it may be missing
 * @throws {UsageError} If there is none though it is needed, or more than one
 */
export async function textOf(
  world: VerbWorld,
  texts: readonly string[],
  flag: string | undefined,
  { what, needed, example, note, signal }: {
    what: string;
    needed: boolean;
    example: string;
    note: (text: string) => void;
    signal: AbortSignal;
  },
): Promise<string | undefined> {
  const all = flag === undefined ? texts : [...texts, flag];
  if (all.length > 1) {
    const shown = all.map((text) => JSON.stringify(text)).join(" and ");
    throw new UsageError(`Cannot take more than one ${what}: ${shown}`, {
      help: `put it in quotes: ${example}`,
    });
  }
  const [text] = all;
  if (text?.trim() === "") {
    throw new UsageError(`Cannot go on with an empty ${what}`, { help: `as in: ${example}` });
  }
  if (text !== undefined && text !== "-") return text;
  if (text === undefined && !needed) return undefined;
  if (text === undefined && world.stdinTerminal) {
    throw new UsageError(`Cannot go on without a ${what}`, { help: `give it, as in: ${example}` });
  }
  note(`reading the ${what} from stdin`);
  const read = (await readAll(world.stdin(), signal, what)).trim();
  if (read !== "") return read;
  throw new UsageError(`Cannot go on without a ${what}: stdin is empty`, {
    help: `give it, as in: ${example}`,
  });
}

async function readAll(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
  what: string,
): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let [text, bytes] = ["", 0];
  try {
    for await (const chunk of chunksOf(stream, signal)) {
      bytes += chunk.length;
      if (bytes > MAX_STDIN_BYTES) {
        throw new InputError(
          `Cannot read the ${what} from stdin: it is over ${MAX_STDIN_BYTES} bytes`,
          {
            help: "give a shorter text",
          },
        );
      }
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new InputError(`Cannot read the ${what} from stdin: ${fileReason(cause)}`, {
      cause,
      help: "give UTF-8 text; images are given by path",
    });
  }
}

/** Chunks of a stream until it ends or the signal aborts, which throws its reason. */
export async function* chunksOf<T>(stream: ReadableStream<T>, signal: AbortSignal) {
  const reader = stream.getReader();
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  aborted.catch(() => {}); // heard below, if somebody still waits
  try {
    while (true) {
      const { value, done } = await Promise.race([reader.read(), aborted]);
      if (done) return;
      yield value as T;
    }
  } finally {
    reader.releaseLock();
  }
}

/** Lines of a text stream, without their ends. */
export async function* linesOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let rest = "";
  for await (const text of chunksOf(stream.pipeThrough(new TextDecoderStream()), signal)) {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}
