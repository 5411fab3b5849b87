// The words under the demo's figure, made from its numbers: what is shown, how sure it is, under which conditions.

import { type DemoResult, type Gate, verdict } from "./demo_result.ts";
import { type Estimate, percent, pointsOf } from "./figure.ts";

/** The caption of a demo's figure with `panels` lettered panels. */
export function demoCaption(result: DemoResult, panels: number): string {
  const { facts, planted, natural, gates } = result;
  const parts: string[] = [];
  // A difference is an effect of generation only where generation was learned; elsewhere it is not given.
  const effect = (world: "planted" | "natural", text: () => string) => {
    const said = verdict(gates, world);
    return said.startsWith("inconclusive") ? said : `${text()} (${said})`;
  };
  if (planted) {
    const { starved, difference } = planted;
    const text = () =>
      `on "${starved}" ${estimateText(difference.starved)}, on the other questions ` +
      estimateText(difference.others);
    parts.push(
      `Planted world, where generation carries the labels that understanding lacks: joint minus und ` +
        `${effect("planted", text)}.`,
    );
  }
  if (natural) {
    const { name, questions } = natural;
    const kinds = questions.filter((q) => q.name !== "mean").length;
    const shown = questions.filter((q) => q.difference !== undefined);
    const overall = shown.find((q) => q.name === "mean") ?? shown.at(-1);
    const text = () => overall ? `${overall.name} ${estimateText(overall.difference!)}` : "absent";
    parts.push(
      `${capital(name)}: accuracy on ${kinds} kinds of question; joint minus und, ` +
        `${effect("natural", text)}.`,
    );
  }
  for (const gate of gates) parts.push(gateText(gate, result));
  if (result.probes.length > 0) {
    const targets = result.probes.map((p) => p.target).join(" and ");
    parts.push(`Linear probes of ${targets} by depth; dotted: chance.`);
  }
  const seeds = facts.seeds.length === 1
    ? `1 seed (${facts.seeds[0]})`
    : `${facts.seeds.length} seeds (${facts.seeds.join(", ")})`;
  parts.push(
    `Panels a–${
      String.fromCharCode(96 + Math.max(1, panels))
    }. Points: mean; brackets: ${facts.intervals}. ` +
      `n = ${grouped(facts.items)} held-out images per world, ${seeds}, ${
        grouped(facts.steps)
      } steps ` +
      `per arm, ${millions(facts.parameters)} parameters. Arms start from ${facts.init}. ` +
      `${facts.adapter}, commit ${facts.commit}.`,
  );
  if (facts.seeds.length === 1) {
    parts.push("One seed: the brackets leave out the spread between trainings.");
  }
  if (facts.remark) parts.push(`${capital(facts.remark)}.`);
  if (result.draft) parts.push("DRAFT: runs are unfinished.");
  return parts.join(" ");
}

/** The figure in words. */
export function demoAlt(result: DemoResult): string {
  const parts = ["Accuracy of matched training arms."];
  if (result.planted) {
    const arms = result.planted.arms.map((a) => `${a.arm} ${percent(a.starved.mean)}`).join(", ");
    parts.push(`Planted world, ${result.planted.starved}: ${arms}.`);
  }
  for (const question of result.natural?.questions ?? []) {
    const arms = question.arms.map((a) => `${a.arm} ${percent(a.accuracy.mean)}`).join(", ");
    parts.push(`${capital(question.name)}: ${arms}, chance ${percent(question.chance)}.`);
  }
  for (const gate of result.gates) parts.push(gateText(gate, result));
  if (result.samples) {
    parts.push(`Pictures: ${result.samples.rows.map((r) => r.label).join(", ")}.`);
  }
  return parts.join(" ");
}

function gateText(gate: Gate, { natural }: DemoResult): string {
  const { arm, measure, value, threshold, passed } = gate;
  const world = gate.world === "planted" ? "planted world" : natural?.name ?? "natural world";
  return `Gate, ${world}, ${arm}: ${measure} ${percent(value)} (its interval must lie above ` +
    `${percent(threshold)}): ${passed ? "passed" : "not passed"}.`;
}

function estimateText({ mean, low, high }: Estimate): string {
  if (low === undefined || high === undefined) return pointsOf(mean);
  const bound = (v: number) => pointsOf(v).replace(" points", "");
  return `${pointsOf(mean)} [${bound(low)}, ${bound(high)}]`;
}

/** Thousands apart by a narrow space, whatever the locale. */
export const grouped = (n: number): string => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");

function millions(n: number): string {
  return n < 1e6 ? `${(n / 1e3).toFixed(0)} k` : `${(n / 1e6).toFixed(2)} M`;
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
