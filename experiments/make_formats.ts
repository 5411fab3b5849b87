// Writes the sample of each data format to experiments/formats/: small phantoms, so that everybody may
// have them. The same bytes every time, as long as the packages stay the same.
//
//   deno task make-formats

import { parquetWriteBuffer } from "hyparquet-writer";
import {
  bytesOf,
  encodePng,
  inModality,
  type Modality,
  phantom,
  withoutLesion,
} from "../lib/mod.ts";
import type { Phantom } from "../lib/data/phantoms/phantom.ts";
import { writeWhole } from "../lib/write_whole.ts";

const SEED = 7;
const SIDE = 32;

const names: Record<Modality, string> = {
  cfp: "a fundus photograph",
  cxr: "a chest radiograph",
  ct: "a CT slice",
  his: "a histology section",
  mri: "an MR slice",
  oct: "an OCT scan",
  us: "an ultrasound image",
  endo: "an endoscopy image",
};

let next = 0;

/** A phantom that no other record has; with a lesion if asked. */
function fresh(lesion = false): Phantom {
  while (true) {
    const p = phantom(SEED, "formats", next++, { size: SIDE, grey: true });
    if (!lesion || p.factors.lesion) return p;
  }
}

const png = ({ image }: Phantom) => encodePng({ width: SIDE, height: SIDE, data: bytesOf(image) });

function describe({ factors: { modality, shape, lesion } }: Phantom): string {
  const found = lesion
    ? `${lesion.count} ${lesion.size} ${lesion.tone} lesion in the ${lesion.quadrant} quadrant`
    : "no lesion";
  return `Synthetic phantom drawn as ${
    names[modality]
  }: an organ shaped like a ${shape}, ${found}.`;
}

const lines = (records: unknown[]) => records.map((r) => `${JSON.stringify(r)}\n`).join("");

/**
 * Writes all samples.
 *
 * @param out folder that gets one folder per format
 */
export async function makeFormats(out: string): Promise<void> {
  next = 0;
  await makeUnimedvl(`${out}/unimedvl`);
  await makeVlm(`${out}/vlm`);
  await makeT2i(`${out}/t2i`);
  await makeEdit(`${out}/edit`);
  await makeFolder(`${out}/folder`);
}

/** Saves pictures as images/NAME.png and returns their paths. */
async function save(dir: string, pictures: Record<string, Phantom>): Promise<string[]> {
  await Deno.mkdir(`${dir}/images`, { recursive: true });
  const paths: string[] = [];
  for (const [name, picture] of Object.entries(pictures)) {
    paths.push(`images/${name}.png`);
    await writeWhole(`${dir}/images/${name}.png`, await png(picture));
  }
  return paths;
}

async function makeUnimedvl(dir: string) {
  const [asked, drawn, before, inside] = [fresh(true), fresh(), fresh(true), fresh()];
  const after = withoutLesion(before);
  const [a, b, c, d] = await save(dir, { asked, drawn, before, after });
  const common = { dataset: "phantoms" };
  await writeWhole(
    `${dir}/train.jsonl`,
    lines([
      {
        main_task_type: "understanding",
        sub_task_type: "vqa",
        modality: asked.factors.modality,
        ...common,
        input_img: [a],
        output_img: [],
        message: [
          { from: "human", value: "<image>\nIs there a lesion, and where?" },
          { from: "gpt", value: `Yes, in the ${asked.factors.lesion!.quadrant} quadrant.` },
        ],
      },
      {
        main_task_type: "generation",
        sub_task_type: "text-to-image",
        modality: drawn.factors.modality,
        ...common,
        input_img: [],
        output_img: [b],
        message: [{ from: "human", value: describe(drawn) }, { from: "gpt", value: "<image>" }],
      },
      {
        main_task_type: "interleaved",
        sub_task_type: "counterfactual",
        modality: before.factors.modality,
        ...common,
        input_img: [c],
        output_img: [d],
        message: [
          { from: "human", value: "<image>\nDraw the same case without its lesion." },
          { from: "gpt", value: "Here it is, everything else unchanged.\n<image>" },
        ],
      },
      {
        main_task_type: "text",
        sub_task_type: "qa",
        modality: null,
        ...common,
        input_img: [],
        output_img: [],
        message: [
          { from: "human", value: "What does an MR slice show best?" },
          { from: "gpt", value: "Soft tissue, by how its water answers." },
        ],
      },
      {
        main_task_type: "understanding",
        sub_task_type: "caption",
        modality: inside.factors.modality,
        ...common,
        input_img: [`data:image/png;base64,${(await png(inside)).toBase64()}`],
        output_img: [],
        message: [
          { from: "human", value: "Describe the image." },
          { from: "gpt", value: describe(inside) },
        ],
      },
    ]),
  );
}

async function makeVlm(dir: string) {
  const first = fresh(true);
  const [a, b, c] = await save(dir, { single: fresh(), first, second: withoutLesion(first) });
  const turns = (question: string, ...rest: string[]) =>
    [question, ...rest].map((value, i) => ({ from: i % 2 === 0 ? "human" : "gpt", value }));
  await writeWhole(
    `${dir}/train.jsonl`,
    lines([
      {
        image: a,
        conversations: turns(
          "<image>\nIs this a photograph of a patient?",
          "No, it is a synthetic phantom.",
          "Who drew it?",
          "A program of this repository.",
        ),
      },
      {
        image: [b, c],
        conversations: turns(
          "Compare <image> with <image>.",
          "The first has a lesion, the second is the same case without.",
        ),
      },
      {
        conversations: turns(
          "What is a phantom in imaging?",
          "An object of known make, to test a device with.",
        ),
      },
    ]),
  );
}

async function makeT2i(dir: string) {
  const pictures = [fresh(true), fresh(), fresh(true), fresh()];
  await Deno.mkdir(dir, { recursive: true });
  const columns = {
    image: await Promise.all(pictures.map(png)),
    captions: pictures.map((p) => JSON.stringify({ long: describe(p), words: p.caption })),
    modality: pictures.map((p) => p.factors.modality),
  };
  await writeWhole(
    `${dir}/train.parquet`,
    new Uint8Array(parquetWriteBuffer({
      columnData: [
        { name: "image", data: columns.image, type: "BYTE_ARRAY" },
        { name: "captions", data: columns.captions, type: "STRING" },
        { name: "modality", data: columns.modality, type: "STRING" },
      ],
      rowGroupSize: 2,
    })),
  );
}

/** Bytes in a list, and texts in a list of lists, as parquet describes them. */
const EDIT_SCHEMA: Parameters<typeof parquetWriteBuffer>[0]["schema"] = [
  { name: "root", num_children: 2 },
  { name: "image_list", repetition_type: "REQUIRED", num_children: 1, converted_type: "LIST" },
  { name: "list", repetition_type: "REPEATED", num_children: 1 },
  { name: "element", repetition_type: "REQUIRED", type: "BYTE_ARRAY" },
  {
    name: "instruction_list",
    repetition_type: "REQUIRED",
    num_children: 1,
    converted_type: "LIST",
  },
  { name: "list", repetition_type: "REPEATED", num_children: 1 },
  { name: "element", repetition_type: "REQUIRED", num_children: 1, converted_type: "LIST" },
  { name: "list", repetition_type: "REPEATED", num_children: 1 },
  { name: "element", repetition_type: "REQUIRED", type: "BYTE_ARRAY", converted_type: "UTF8" },
];

async function makeEdit(dir: string) {
  const [sick, other] = [fresh(true), fresh(true)];
  const healthy = withoutLesion(sick);
  const to: Modality = sick.factors.modality === "mri" ? "ct" : "mri";
  const rows: { images: Phantom[]; instructions: string[][] }[] = [
    {
      images: [sick, healthy, inModality(healthy, to)],
      instructions: [
        ["Remove the lesion", "Show the case without its lesion"],
        [`Draw it as ${names[to]}`],
      ],
    },
    {
      images: [other, withoutLesion(other)],
      instructions: [["Remove the lesion"]],
    },
  ];
  await Deno.mkdir(dir, { recursive: true });
  await writeWhole(
    `${dir}/train.parquet`,
    new Uint8Array(parquetWriteBuffer({
      schema: EDIT_SCHEMA!,
      columnData: [
        {
          name: "image_list",
          data: await Promise.all(rows.map(({ images }) => Promise.all(images.map(png)))),
        },
        { name: "instruction_list", data: rows.map(({ instructions }) => instructions) },
      ],
    })),
  );
}

async function makeFolder(dir: string) {
  for (const [split, count] of [["train", 3], ["test", 1]] as const) {
    await Deno.mkdir(`${dir}/${split}`, { recursive: true });
    for (let i = 1; i <= count; i++) {
      const picture = fresh();
      await writeWhole(`${dir}/${split}/phantom-${i}.png`, await png(picture));
      await writeWhole(`${dir}/${split}/phantom-${i}.txt`, `${describe(picture)}\n`);
    }
  }
}

if (import.meta.main) await makeFormats("experiments/formats");
