// What benches make of their figures: medians, and tables of text.

/** The upper one of an even number; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

/** The first row is the head. Figures stand to the right of their column; words (the first column, and others that are named) to the left. */
export function printTable(
  title: string,
  rows: readonly (readonly string[])[],
  words: ReadonlySet<number> = new Set(),
): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const padded = (cell: string, column: number): string =>
    column === 0 || words.has(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  const lines = rows.map((row) => `  ${row.map(padded).join('  ').trimEnd()}`);
  process.stdout.write(`${title}\n${lines.join('\n')}\n\n`);
}
