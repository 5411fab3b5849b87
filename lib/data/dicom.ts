// DICOM files as pictures: one frame, rescaled to its meaning (Hounsfield units in CT), windowed to
// 8 bits. Read: implicit, explicit, big-endian and deflated data sets; native, RLE and JPEG baseline
// pixels of 1, 8, 16 or 32 bits; grey, palette, RGB and YBR. Overlays are not drawn.
//
// The window is the option's, else the file's first one (or its VOI table), else 8 bits as they are
// stored, else percentiles. Needs no permission but for JPEG pixels (sharp: --allow-ffi).

import { UsageError } from "../errors.ts";
import { colorToRgb, type Lut, readLut } from "./dicom_color.ts";
import { type DicomHeader, Elements, parseDicom } from "./dicom_header.ts";
import { decodeJpegFrame } from "./dicom_jpeg.ts";
import { type Layout, readLayout } from "./dicom_layout.ts";
import { readFrame, type Samples } from "./dicom_pixels.ts";
import { conversionHelp, type TransferSyntax } from "./dicom_syntax.ts";
import { toRgb } from "./color.ts";
import type { Picture, PictureOptions } from "./picture.ts";
import { pictureError } from "./picture_kind.ts";
import { reduceImage } from "./reduce.ts";
import {
  applyWindow,
  chooseWindow,
  parseWindow,
  type Scale,
  type UsedWindow,
  type Window,
  type WindowChoice,
  type WindowShape,
} from "./window.ts";

/** One frame with what its values mean. */
export interface DicomFrame {
  layout: Layout;
  syntax: TransferSyntax;
  /** A code such as CT; undefined if it is none of the usual ones. */
  modality?: string;
  /** The frame taken, from 0. */
  frame: number;
  /** (h, w, samples) stored values; (h, w, 3) RGB if `rgb`. */
  samples: Samples;
  rgb: boolean;
  /** Stored → meaningful values. */
  scale: Scale;
  /** A table instead of `scale`. */
  modalityLut?: Lut;
  window?: Window & { shape: WindowShape };
  voiLut?: Lut;
  /** The stored value outside the picture. */
  padding?: number;
  notes: string[];
}

/** Modalities that are told; what else stands in the field might be anything. */
const MODALITIES = new Set(
  ("AR BMD CR CT DX ECG ES GM IO IVUS MG MR NM OCT OP OT PT PX RF RTIMAGE SC SEG SM US XA XC")
    .split(" "),
);

/**
 * Reads one frame of a DICOM file, before windowing.
 *
 * @param frame from 0
 * @throws {InputError} If the file is damaged, has no pixels or is written in a way not read here
 * @throws {UsageError} If it has no such frame
 */
export async function readDicomFrame(
  bytes: Uint8Array,
  name: string,
  frame = 0,
): Promise<DicomFrame> {
  return (await load(bytes, name, frame, true)).frame;
}

/** The frame, and the elements it is described by, which stay inside this file: they name people. */
async function load(
  bytes: Uint8Array,
  name: string,
  frame: number,
  ownWindow: boolean,
): Promise<{ frame: DicomFrame; elements: Elements }> {
  const header = parseDicom(bytes, name);
  const { elements, syntax } = header;
  if (!syntax.coding) {
    throw pictureError(
      name,
      `its transfer syntax is ${syntax.uid} (${syntax.words}), which is not read`,
      conversionHelp(syntax),
    );
  }
  const layout = readLayout(elements);
  if (frame >= layout.frames) {
    throw new UsageError(
      `Cannot take frame ${frame} of ${name}: it has ${layout.frames}, from 0 to ${
        layout.frames - 1
      }`,
      { help: "Give a smaller --frame" },
    );
  }
  const stored = readFrame(header, layout, frame);
  const decoded = "jpeg" in stored
    ? await decodeJpegFrame(stored.jpeg, layout, syntax, name)
    : { samples: stored.samples, rgb: false };
  const modality = elements.code("modality");
  return {
    elements,
    frame: {
      layout,
      syntax,
      ...(modality && MODALITIES.has(modality) ? { modality } : {}),
      frame,
      ...decoded,
      ...readMeaning(header, layout, frame, ownWindow),
      notes: header.notes,
    },
  };
}

/** Rescaling, padding and window: of the frame, of all frames, or of the file, in this order. */
function readMeaning(header: DicomHeader, layout: Layout, frame: number, ownWindow: boolean) {
  const { elements } = header;
  const groups = [
    elements.item("perFrameFunctionalGroups", frame),
    elements.item("sharedFunctionalGroups"),
  ];
  const find = (field: "pixelValueTransformationSequence" | "frameVoiLutSequence") =>
    groups.map((group) => group?.item(field)).find((item) => item !== undefined) ?? elements;
  const transform = find("pixelValueTransformationSequence");
  const slope = transform.decimal("rescaleSlope") ?? 1;
  if (slope === 0) throw transform.wrong("rescaleSlope", "is 0: all values would be equal");
  const intercept = transform.decimal("rescaleIntercept") ?? 0;
  const lut = (item: Elements | undefined) =>
    item && readLut(item, "lutDescriptor", "lutData", layout.signed);
  const modalityLut = lut(elements.item("modalityLutSequence"));
  const window = ownWindow ? readWindow(find("frameVoiLutSequence")) : undefined;
  const voiLut = ownWindow && !window ? lut(elements.item("voiLutSequence")) : undefined;
  const padding = elements.shorts("pixelPaddingValue", layout.signed)?.[0];
  return {
    scale: { slope, intercept },
    ...(modalityLut ? { modalityLut } : {}),
    ...(window ? { window } : {}),
    ...(voiLut ? { voiLut } : {}),
    ...(padding === undefined ? {} : { padding }),
  };
}

const WINDOW_HELP = "Give a window of your own, as in --window 40/400, or --window auto";

function readWindow(elements: Elements): (Window & { shape: WindowShape }) | undefined {
  const center = elements.decimal("windowCenter");
  const width = elements.decimal("windowWidth");
  if (center === undefined && width === undefined) return undefined;
  if (center === undefined) throw elements.wrong("windowCenter", "is missing", WINDOW_HELP);
  if (width === undefined) throw elements.wrong("windowWidth", "is missing", WINDOW_HELP);
  const shape = elements.code("voiLutFunction") ?? "LINEAR";
  if (shape !== "LINEAR" && shape !== "LINEAR_EXACT" && shape !== "SIGMOID") {
    throw elements.wrong("voiLutFunction", "is not LINEAR, LINEAR_EXACT or SIGMOID", WINDOW_HELP);
  }
  if (!(shape === "LINEAR" ? width >= 1 : width > 0)) {
    throw elements.wrong("windowWidth", `is ${width}, expected at least 1`, WINDOW_HELP);
  }
  return { center, width, shape };
}

/**
 * Reads a DICOM file as a picture.
 *
 * @throws {InputError} As readDicomFrame()
 * @throws {UsageError} If it has no such frame, or its pixels cannot be windowed as asked
 */
export async function readDicom(
  bytes: Uint8Array,
  name: string,
  options: PictureOptions,
): Promise<Picture> {
  const choice = options.window === undefined ? undefined : parseWindow(options.window);
  const { frame, elements } = await load(bytes, name, options.frame ?? 0, !choice);
  const { layout, syntax, modality, notes } = frame;
  const { columns: width, rows: height } = layout;
  const isColor = layout.samples === 3 || layout.photometric === "PALETTE COLOR";
  if (isColor && choice) {
    throw new UsageError(`Cannot window ${name}: it is a colour picture`, {
      help: "Leave out --window",
    });
  }
  const shown = isColor
    ? {
      data: frame.rgb ? frame.samples as Uint8Array : colorToRgb(elements, layout, frame.samples),
    }
    : showGrey(frame, choice, name);
  if (isColor && layout.photometric !== "RGB") notes.push(`${layout.photometric} shown as RGB`);
  if (syntax.coding === "jpeg") notes.push(`pixels stored as ${syntax.words}, with losses`);
  if (layout.frames > 1 && options.frame === undefined) {
    notes.push(`first of ${layout.frames} frames`);
  }
  return {
    ...toRgb(reduceImage({ width, height, data: shown.data }, notes)),
    format: "dicom",
    source: {
      width,
      height,
      bits: layout.bitsStored,
      channels: layout.samples,
      syntax: syntax.words,
      ...(modality ? { modality } : {}),
    },
    ...(layout.frames > 1 ? { frame: { index: frame.frame, count: layout.frames } } : {}),
    ...("window" in shown && shown.window ? { window: shown.window } : {}),
    notes,
  };
}

/** Grey values → bytes, small values black but for MONOCHROME1. */
function showGrey(
  frame: DicomFrame,
  choice: WindowChoice | undefined,
  name: string,
): { data: Uint8Array; window?: UsedWindow } {
  const { layout, modality, notes } = frame;
  if (choice?.kind === "given" && choice.preset && modality && modality !== "CT") {
    throw new UsageError(
      `Cannot use window ${choice.preset} on ${name}: it is ${modality}, presets are for CT`,
      { help: "Give --window center/width in the file's values, or leave it out" },
    );
  }
  const invert = layout.photometric === "MONOCHROME1";
  if (invert) notes.push("MONOCHROME1: inverted, so that large values are dark");
  const { modalityLut, voiLut } = frame;
  const values = modalityLut ? through(modalityLut, frame.samples) : frame.samples;
  const scale = modalityLut ? { slope: 1, intercept: 0 } : frame.scale;
  if (voiLut) {
    notes.push("shown through the file's VOI table");
    const { slope, intercept } = scale;
    const grey = through(voiLut, values, (v) => slope * v + intercept);
    const top = 2 ** voiLut.bits - 1;
    return { data: applyWindow(grey, SAME, { center: top / 2, width: top }, undefined, invert) };
  }
  const { bitsStored, signed } = layout;
  const same = !modalityLut && scale.slope === 1 && scale.intercept === 0;
  if (!choice && !frame.window && bitsStored <= 8 && !signed && same) {
    const top = 2 ** bitsStored - 1;
    return { data: applyWindow(values, SAME, { center: top / 2, width: top }, undefined, invert) };
  }
  const window = chooseWindow(choice, frame.window, values, scale, frame.padding);
  if (!window) {
    notes.push("all values are equal: shown black");
    return { data: new Uint8Array(values.length) };
  }
  return { data: applyWindow(values, scale, window, window.shape, invert), window };
}

const SAME = { slope: 1, intercept: 0 };

/** Each value's entry in a table. */
function through(
  { first, values }: Lut,
  stored: ArrayLike<number>,
  rescale = (v: number) => v,
): Uint16Array {
  const out = new Uint16Array(stored.length);
  for (let i = 0; i < out.length; i++) {
    const entry = Math.trunc(rescale(stored[i])) - first;
    out[i] = values[Math.min(Math.max(entry, 0), values.length - 1)];
  }
  return out;
}
