import assert from "node:assert/strict";
import { parameter } from "../../lib/autograd.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { Tensor } from "../../lib/tensor.ts";
import {
  type TrainabilityRow,
  trainabilityTable,
  trainabilityText,
} from "../../lib/train/trainability.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { EDIT, inputsOf, QUESTION, smallModel, TO_IMAGE } from "../model/small.ts";

const question = { inputs: inputsOf([QUESTION]) };
const edit = { inputs: inputsOf([EDIT]) };
const toImage = { inputs: inputsOf([TO_IMAGE]) };

/** Per group: trainable, reached by text, reached by flow, each as `all`, `none` or `some`. */
function shares(rows: readonly TrainabilityRow[]): Record<string, string> {
  const share = (n: number | undefined, of: number) =>
    n === undefined ? "?" : n === 0 ? "none" : n === of ? "all" : "some";
  return Object.fromEntries(rows.map((row) => [
    row.group,
    [row.trainable, row.text, row.flow].map((n) => share(n, row.parameters)).join(" "),
  ]));
}

Deno.test(
  "trainabilityTable() tells which loss reaches which group, and counts every parameter once",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const live = gpu.buffers.liveCount;
    const rows = trainabilityTable(model, { text: question, flow: edit });
    assert.equal(gpu.buffers.liveCount, live, "nothing is left behind");
    assert.deepEqual(shares(rows), {
      "position tables": "none none none",
      "token embedding": "all all all",
      "image encoder": "all all all",
      connector: "all all all",
      "latent input": "all none all",
      // Its last feed-forward, the final norm and the last queries serve no flow loss.
      "und expert": "all all some",
      "gen expert": "all none all",
      "text head": "all all none",
      "flow head": "all none all",
    });
    assert.equal(rows.reduce((n, row) => n + row.parameters, 0), model.parameters.count);
    const blocked = shares(
      trainabilityTable(model, { flow: { ...edit, blocked: () => true } }),
    );
    assert.equal(blocked["und expert"], "all ? none");
    assert.equal(blocked["image encoder"], "all ? none");
    assert.equal(blocked["gen expert"], "all ? all");
    assert.equal(
      shares(trainabilityTable(model, { flow: toImage }))["image encoder"],
      "all ? none",
    );
    model.dispose();
  },
);

Deno.test(
  "trainabilityTable() shows what is frozen, adapters and the autoencoder",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    for (const [name, tensor] of model.parameters.entries()) {
      if (/^(und\.layers\.0|vit|text\.embed)\./.test(name)) tensor.requiresGrad = false;
    }
    const zeros = () => Tensor.zeros(gpu, [3]);
    model.parameters.add("lora.und.layers.0.attn.q.a", parameter(zeros()));
    model.parameters.add("mystery", zeros(), false);
    const autoencoder = new Parameters();
    autoencoder.add("encoder.conv_in.weight", zeros(), false);
    const rows = trainabilityTable(model, { text: question }, autoencoder);
    const got = shares(rows);
    assert.deepEqual(
      ["image encoder", "token embedding", "und expert", "connector"].map((name) => got[name]),
      ["none none ?", "none none ?", "some some ?", "all all ?"],
    );
    assert.equal(got["adapters (LoRA)"], "all none ?");
    assert.equal(got.other, "none none ?");
    assert.equal(got.autoencoder, "none none ?");
    assert.deepEqual(rows.at(-1), { group: "autoencoder", parameters: 3, trainable: 0, text: 0 });
    autoencoder.dispose();
    model.dispose();
  },
);

Deno.test(
  "trainabilityTable() refuses a batch without the loss in question",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const live = gpu.buffers.liveCount;
    assert.throws(() => trainabilityTable(model, { text: toImage }), {
      name: "TypeError",
      message: "Cannot probe the text loss: its batch has no text to predict",
    });
    assert.throws(() => trainabilityTable(model, { flow: question }), {
      message: "Cannot probe the flow loss: its batch has no latents to denoise",
    });
    assert.equal(gpu.buffers.liveCount, live);
    model.dispose();
  },
);

Deno.test("trainabilityText() aligns the table and adds it up", () => {
  const rows = [
    { group: "und expert", parameters: 12345, trainable: 12345, text: 12345, flow: 300 },
    { group: "vit", parameters: 7, trainable: 0, text: 0, flow: 0 },
  ];
  assert.deepEqual(trainabilityText(rows).split("\n"), [
    "group       parameters  trainable  CE gradient  flow gradient",
    "und expert      12,345        all          all            300",
    "vit                  7       none         none           none",
    "all             12,352     12,345       12,345            300",
  ]);
  const unprobed = trainabilityText([{ group: "a", parameters: 1, trainable: 1 }]).split("\n");
  assert.equal(unprobed[1], "a               1        all   not probed     not probed");
});
