// What the demo prints: budgets side by side, gradient routes, accuracies with intervals, verdicts.

import { type DemoResult, verdict } from "../../lib/show/demo_result.ts";
import type { Estimate } from "../../lib/show/figure.ts";
import { PARAMETER_GROUPS, type RouteNorms } from "../../lib/study/routes.ts";
import type { WorldResult } from "./result.ts";

/** Rows of cells as aligned lines; the first column is left, the others right. */
export function table(rows: string[][]): string {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0)));
  return rows.map((row) =>
    row.map((cell, c) => c === 0 ? cell.padEnd(widths[c]) : cell.padStart(widths[c])).join("  ")
      .trimEnd()
  ).join("\n");
}

function percent({ mean, low, high }: Estimate): string {
  if (Number.isNaN(mean)) return "–";
  const value = (100 * mean).toFixed(1);
  if (low === undefined || high === undefined) return value;
  return `${value} [${(100 * low).toFixed(1)}, ${(100 * high).toFixed(1)}]`;
}

function signed({ mean, low, high }: Estimate): string {
  const points = (x: number) => `${x > 0 ? "+" : ""}${(100 * x).toFixed(1)}`;
  if (Number.isNaN(mean)) return "–";
  return low === undefined || high === undefined
    ? points(mean)
    : `${points(mean)} [${points(low)}, ${points(high)}]`;
}

/** Which groups of parameters the flow loss reaches, as gradient norms; a dot is an exact zero. */
export function routesTable(routes: { name: string; norms: RouteNorms }[]): string {
  const head = ["flow loss reaches", ...PARAMETER_GROUPS.map(({ name }) => name)];
  const rows = routes.map(({ name, norms }) => [
    name,
    ...PARAMETER_GROUPS.map((group) => {
      const norm = norms[group.name];
      return norm === 0 ? "0" : norm.toPrecision(2);
    }),
  ]);
  return table([head, ...rows]);
}

/** What each arm of a world was given. */
export function budgetTable({ world, arms }: WorldResult): string {
  const head = [
    `${world.title}: given`,
    "steps",
    "und images",
    "und tokens",
    "answer tokens",
    "gen images",
    "gen tokens",
    "train s",
  ];
  const rows = arms.map(({ arm, budget, seconds }) => [
    arm,
    String(budget.steps),
    String(budget.understandingImages),
    String(budget.understandingTokens),
    String(budget.answerTokens),
    String(budget.generationImages),
    String(budget.generationTokens),
    seconds.train.toFixed(0),
  ]);
  return table([head, ...rows]);
}

/** Accuracies in percent with 95 % intervals, differences in points. */
export function accuracyTables(result: DemoResult): string {
  const parts: string[] = [];
  if (result.planted) {
    const { starved, chance, arms, difference } = result.planted;
    const effect = effectCell(result, "planted");
    parts.push(table([
      ["planted world: accuracy %", `${starved} (starved)`, "other questions"],
      ["chance", percent({ mean: chance.starved }), percent({ mean: chance.others })],
      ...arms.map((arm) => [arm.arm, percent(arm.starved), percent(arm.others)]),
      ["joint − und, points", effect(difference.starved), effect(difference.others)],
    ]));
  }
  if (result.natural) {
    const { name, questions } = result.natural;
    const arms = questions[0].arms.map(({ arm }) => arm);
    const effect = effectCell(result, "natural");
    parts.push(table([
      [`${name}: accuracy %`, "chance", ...arms, "joint − und, points"],
      ...questions.map(({ name, chance, arms, difference }) => [
        name,
        percent({ mean: chance }),
        ...arms.map(({ accuracy }) => percent(accuracy)),
        difference ? effect(difference) : "–",
      ]),
    ]));
  }
  parts.push(gateLines(result));
  return parts.join("\n\n");
}

/** A difference is an effect of generation only where generation was learned. */
function effectCell(
  result: DemoResult,
  world: "planted" | "natural",
): (difference: Estimate) => string {
  const said = verdict(result.gates, world);
  return (difference) => said === "generation learned" ? signed(difference) : said;
}

function gateLines({ gates, natural }: DemoResult): string {
  const title = (world: string) =>
    world === "planted" ? "planted world" : natural?.name ?? "natural world";
  return gates.map(({ world, arm, measure, value, threshold, passed }) =>
    `gate, ${title(world)}, ${arm}: ${measure} ${(100 * value).toFixed(0)} % ` +
    `(its interval must lie above ${(100 * threshold).toFixed(0)} %): generation ` +
    (passed ? "learned" : "not learned")
  ).join("\n");
}
