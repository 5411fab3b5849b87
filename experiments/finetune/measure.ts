// What tuning did: losses per answer word, answers right, whether answers have become one, and what was forgotten.

import { noGrad } from "../../lib/autograd.ts";
import { packBatch } from "../../lib/data/pack.ts";
import { prepareBatch } from "../../lib/model/batch.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { answerAll, type VqaAnswer } from "../../lib/study/vqa.ts";
import { tidy } from "../../lib/tensor.ts";
import { flowObjective } from "../demo/arm.ts";
import { ARMS } from "../demo/config.ts";
import type { Pictured } from "../demo/data_samples.ts";
import { type FinetuneData, sampleOf, type Split } from "./data.ts";

/** Images of a pass. */
const AT_ONCE = 16;

/** Mean cross-entropy per word of the answers, ends included, in nats. */
export async function textLoss(
  model: UniMedVL,
  items: readonly Pictured[],
  { tokenizer, pack }: FinetuneData,
): Promise<number> {
  let [sum, count] = [0, 0];
  for (let first = 0; first < items.length; first += AT_ONCE) {
    const samples = items.slice(first, first + AT_ONCE).map((item) => sampleOf(item, tokenizer));
    const loss = tidy(() =>
      noGrad(() => {
        const inputs = { packed: packBatch(samples, pack) };
        return model.forward(prepareBatch(model.gpu, model.config, inputs)).textLoss!;
      })
    );
    const values = await loss.floats();
    loss.dispose();
    sum += values.reduce((a, b) => a + b, 0);
    count += values.length;
  }
  return sum / count;
}

/** Mean squared error of velocities for phantoms' captions that training does not reach. */
async function flowLoss(model: UniMedVL, { phantoms, demo }: FinetuneData): Promise<number> {
  const held = phantoms.drawing.map(({ sample }) => sample);
  const { inputs } = flowObjective(held, ARMS.joint, phantoms, demo, 1_000_000);
  const loss = tidy(() =>
    noGrad(() => model.forward(prepareBatch(model.gpu, model.config, inputs)).flowLoss!)
  );
  const values = await loss.floats();
  loss.dispose();
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** How answers are spread. */
export interface Spread {
  /** Share of the most common answer, and which it is. */
  most: number;
  answer: string;
  /** In bits. */
  entropy: number;
}

/** Spread of a list of answers. */
export function spreadOf(answers: readonly string[]): Spread {
  const counts = [...Map.groupBy(answers, (answer) => answer)].map(([answer, all]) => ({
    answer,
    share: all.length / answers.length,
  })).sort((a, b) => b.share - a.share);
  const entropy = counts.reduce((sum, { share }) => sum - share * Math.log2(share), 0);
  return { most: counts[0]?.share ?? 0, answer: counts[0]?.answer ?? "", entropy };
}

/** Measures of one model. */
export interface Measures {
  /** Cross-entropy per word on the images tuned on, on held-out heads, on chests and abdomens. */
  tune: number;
  test: number;
  general: number;
  /** Held-out heads: shares of closed and of all questions answered right. */
  closed: number;
  right: number;
  spread: Spread;
  /** Share of questions about phantoms answered right; error of the velocities of their pictures. */
  phantoms: number;
  flow: number;
}

/** Everything that is measured of a model. */
export async function measure(
  model: UniMedVL,
  data: FinetuneData,
  split: Split,
): Promise<Measures> {
  const { tokenizer, pack, maxWords, phantoms } = data;
  const said = await answerAll(model, tokenizer, split.test, pack, { maxWords, batch: AT_ONCE });
  const known = await answerAll(model, tokenizer, phantoms.tests, pack);
  return {
    tune: await textLoss(model, split.tune, data),
    test: await textLoss(model, split.test, data),
    general: await textLoss(model, data.general.test, data),
    closed: share(said.filter(({ name }) => name === "closed")),
    right: share(said),
    spread: spreadOf(said.map(({ answer }) => answer)),
    phantoms: share(known),
    flow: await flowLoss(model, data),
  };
}

const share = (answers: readonly VqaAnswer[]) =>
  answers.filter(({ correct }) => correct).length / answers.length;
