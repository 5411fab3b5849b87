// The shape of every parameter, from the config alone: what weights are checked against and drawn by.

import { headSize, latentSize, learnedPositions, type UniMedVLConfig } from "./config.ts";

const TIME_FEATURES = 256;

/** Name → shape of every parameter, frozen position tables included, in a fixed order. */
export function parameterShapes(config: UniMedVLConfig): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  const linear = (name: string, rows: number, columns: number, bias: boolean) => {
    shapes.set(`${name}.weight`, [rows, columns]);
    if (bias) shapes.set(`${name}.bias`, [rows]);
  };
  const { language: l, vision: v } = config;
  const width = l.hiddenSize;
  shapes.set("text.embed.weight", [l.vocabSize, width]);
  shapes.set("text.head.weight", [l.vocabSize, width]);
  const head = headSize(l);
  for (const e of ["und", "gen"]) {
    for (let i = 0; i < l.numHiddenLayers; i++) {
      const at = `${e}.layers.${i}`;
      shapes.set(`${at}.attn.norm.weight`, [width]);
      linear(`${at}.attn.q`, l.numAttentionHeads * head, width, true);
      linear(`${at}.attn.k`, l.numKeyValueHeads * head, width, true);
      linear(`${at}.attn.v`, l.numKeyValueHeads * head, width, true);
      linear(`${at}.attn.o`, width, width, false);
      shapes.set(`${at}.attn.qNorm.weight`, [head]);
      shapes.set(`${at}.attn.kNorm.weight`, [head]);
      shapes.set(`${at}.mlp.norm.weight`, [width]);
      linear(`${at}.mlp.gate`, l.intermediateSize, width, false);
      linear(`${at}.mlp.up`, l.intermediateSize, width, false);
      linear(`${at}.mlp.down`, width, l.intermediateSize, false);
    }
    shapes.set(`${e}.norm.weight`, [width]);
  }
  linear("vit.embed.patch", v.hiddenSize, v.patchSize ** 2 * v.numChannels, true);
  shapes.set("vit.embed.position.weight", [learnedPositions(v), v.hiddenSize]);
  for (let j = 0; j < v.numHiddenLayers; j++) {
    const at = `vit.layers.${j}`;
    for (const norm of ["attn.norm", "mlp.norm"]) {
      shapes.set(`${at}.${norm}.weight`, [v.hiddenSize]);
      shapes.set(`${at}.${norm}.bias`, [v.hiddenSize]);
    }
    for (const name of ["q", "k", "v", "o"]) {
      linear(`${at}.attn.${name}`, v.hiddenSize, v.hiddenSize, true);
    }
    linear(`${at}.mlp.fc1`, v.intermediateSize, v.hiddenSize, true);
    linear(`${at}.mlp.fc2`, v.hiddenSize, v.intermediateSize, true);
  }
  shapes.set("vit.norm.weight", [v.hiddenSize]);
  shapes.set("vit.norm.bias", [v.hiddenSize]);
  linear("connector.fc1", width, v.hiddenSize, true);
  linear("connector.fc2", width, width, true);
  shapes.set("connector.position", [config.vitMaxNumPatchPerSide ** 2, width]);
  linear("latent.in", width, latentSize(config), true);
  linear("latent.out", latentSize(config), width, true);
  linear("latent.time.fc1", width, TIME_FEATURES, true);
  linear("latent.time.fc2", width, width, true);
  shapes.set("latent.position", [config.maxLatentSize ** 2, width]);
  return shapes;
}
