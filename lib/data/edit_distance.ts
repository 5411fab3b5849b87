// How far apart two names are, to guess what a misspelt one was meant to be.

/** Levenshtein distance: the fewest insertions, deletions and replacements from `a` to `b`. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, replace));
    }
    row = next;
  }
  return row[b.length];
}

/** The name nearest to `wanted`, in any case of letters; undefined when half or more of it differs from all. */
export function nearestName(wanted: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Infinity;
  for (const name of names) {
    const distance = editDistance(wanted.toLowerCase(), name.toLowerCase());
    if (distance < least && 2 * distance < Math.max(wanted.length, name.length)) {
      [best, least] = [name, distance];
    }
  }
  return best;
}
