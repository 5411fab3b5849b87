// What a check of data can find, how grave it is, and what to do about it.

/** What can be found: whether it is an error, what it is called in lists, and what to do. */
export const FINDING_KINDS = {
  record: {
    level: "error",
    title: "cannot be read",
    help: "Correct the field, or leave the record out",
  },
  image: {
    level: "error",
    title: "image cannot be decoded",
    help: "Replace the file, or leave the record out",
  },
  missing: {
    level: "error",
    title: "a part is missing",
    help: "Add what is missing, or leave the record out",
  },
  leak: {
    level: "error",
    title: "the same image in two splits",
    help: "Keep every image in one split; --fix lists the records on the training side",
  },
  "near-leak": {
    level: "error",
    title: "images that look the same in two splits",
    help: "Look at both; keep copies, and slices of one patient, in one split",
  },
  "text-leak": {
    level: "warning",
    title: "the same text in two splits",
    help: "Keep it in one split, unless there is no other way to say it",
  },
  repeated: {
    level: "warning",
    title: "record repeated",
    help: "Remove one of the two, or give the source a smaller weight",
  },
  duplicate: {
    level: "warning",
    title: "two files with the same image",
    help: "Name one file in both records, or remove one",
  },
  "near-duplicate": {
    level: "warning",
    title: "two images look the same",
    help: "Look at both; remove one if it is a copy",
  },
  flat: {
    level: "warning",
    title: "nothing to be seen",
    help: "Look at the image; a wrong window or an empty slice may be the reason",
  },
  small: {
    level: "warning",
    title: "image below the paper's size",
    help: "Leave it out to do as the paper did, or set --min-side",
  },
  text: {
    level: "warning",
    title: "text outside the paper's lengths",
    help: "Leave it out to do as the paper did, or set --text-length",
  },
  long: {
    level: "warning",
    title: "more tokens than a sample may have",
    help: "Training leaves it out; use smaller images or split the record",
  },
} as const satisfies Record<string, { level: "error" | "warning"; title: string; help: string }>;

/** One of {@link FINDING_KINDS}. */
export type FindingKind = keyof typeof FINDING_KINDS;

/** One thing that was found. */
export interface Finding {
  kind: FindingKind;
  level: "error" | "warning";
  /** Number of the record in the data. */
  index: number;
  /** File and line, row or question. */
  where: string;
  /** The field as the format calls it, if it is about one. */
  field?: string;
  /** What is wrong, without text of the data. */
  message: string;
  /** The other record of two. */
  other?: string;
  help: string;
}

/** Names of the fields that hold texts and images, by format and role. */
const FIELDS: Record<string, { text: [string, string]; image: [string, string] }> = {
  unimedvl: { text: ["message", "message"], image: ["input_img", "output_img"] },
  vlm: { text: ["conversations", "conversations"], image: ["image", "image"] },
  t2i: { text: ["captions", "captions"], image: ["image", "image"] },
  edit: { text: ["instruction_list", "instruction_list"], image: ["image_list", "image_list"] },
  folder: { text: ["prompt", "text file"], image: ["image file", "image file"] },
  "vqa-rad": { text: ["question", "answer"], image: ["image_name", "image_name"] },
  medpack: { text: ["question or caption", "answer"], image: ["file", "file"] },
};

/** The field that holds the texts or images of a role. */
export function fieldOf(format: string, what: "text" | "image", role: "input" | "output"): string {
  const names = Object.hasOwn(FIELDS, format) ? FIELDS[format][what] : [what, what];
  return names[role === "input" ? 0 : 1];
}
