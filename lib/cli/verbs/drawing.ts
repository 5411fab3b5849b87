// Drawing verbs: flags into the library's options, previews, and what is said of a finished image.

import { UsageError } from "../../errors.ts";
import type { DrawingOptions, Drawn, Size } from "../../infer/draw.ts";
import { dashed } from "../flags.ts";
import { fullGuidance } from "../../infer/guidance.ts";
import type { Display } from "./display.ts";
import { DRAWING_FLAGS, type DrawingFlagValues, present } from "./flag_groups.ts";
import { Preview, writePicture } from "./output.ts";
import type { Desk } from "./world.ts";

/**
 * Options of drawing that were typed. What makes no sense is refused here, before a model is opened.
 *
 * @throws {UsageError} Naming the flag and the repair
 */
export function drawingOptions(flags: DrawingFlagValues): DrawingOptions {
  const { interval, shift } = flags;
  if (shift !== undefined && !(shift > 0)) {
    throw new UsageError(`Cannot read --shift ${shift}: expected a number above 0`, {
      help: "3 is usual; 1 leaves the time grid even",
    });
  }
  const options: DrawingOptions = {
    ...present(flags, [
      "steps",
      "shift",
      "seed",
      "noise",
      "textGuidance",
      "imageGuidance",
      "renorm",
      "renormMin",
      "previewEvery",
    ]),
    ...(interval === undefined ? {} : { interval: pairOf(interval) }),
  };
  fullGuidance(options);
  return options;
}

function pairOf(texts: readonly string[]): [number, number] {
  const [low, high] = texts.map((text) => text.trim() === "" ? NaN : Number(text));
  if (texts.length === 2 && Number.isFinite(low) && Number.isFinite(high)) return [low, high];
  throw new UsageError(`Cannot read --interval ${texts.join(",")}: expected two timesteps`, {
    help: "give --interval 0.4,1 for guidance while 0.4 < t ≤ 1",
  });
}

/** A size in pixels from `512` or `512x384`. @throws {UsageError} If it is neither */
export function sizeOption(text: string | undefined): { size?: Size } {
  if (text === undefined) return {};
  const [, width, height] = /^(\d+)(?:[x×](\d+))?$/i.exec(text.trim()) ?? [];
  if (width === undefined) {
    throw new UsageError(`Cannot read --size ${text}: expected pixels`, {
      help: "give --size 512 for a square, or --size 512x384 for width and height",
    });
  }
  return { size: height === undefined ? Number(width) : [Number(width), Number(height)] };
}

/** Flags of drawing that were typed, as they were typed. */
export function typedDrawingFlags(given: ReadonlySet<string>): string[] {
  return Object.keys(DRAWING_FLAGS).filter((name) => name !== "seed" && given.has(name))
    .map((name) => `--${dashed(name)}`);
}

/** Draws with a preview file, if one is wanted; the file is gone afterwards. */
export async function withPreview<T>(
  { flags, emit }: Desk & { flags: DrawingFlagValues },
  out: string,
  display: Display,
  draw: (options: Pick<DrawingOptions, "onPreview">) => Promise<T>,
): Promise<T> {
  if (!flags.preview && flags.previewEvery === undefined) return await draw({});
  const preview = new Preview(out, (path) => display.note(`preview in ${path}`));
  try {
    return await draw({
      onPreview: async (image, step, total) => {
        await preview.show(image);
        emit({ event: "preview", path: preview.path, step, total });
      },
    });
  } finally {
    await preview.remove();
  }
}

/** Writes a drawn image and says so: its path on stdout, or with --json an event with all options. */
export async function deliver(
  { print, emit }: Desk,
  display: Display,
  path: string,
  { image, used }: Drawn,
  facts: Record<string, unknown>,
): Promise<void> {
  await writePicture(path, image);
  display.done();
  print(path);
  emit({ event: "image", path, width: image.width, height: image.height, ...facts, options: used });
}
