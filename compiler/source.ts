/** Where things stand in the sources: what diagnostics, trap sites and #line directives are made of. */

export class Source {
  private readonly lineStarts: number[] = [0];

  constructor(
    /** As people see it: relative to the working directory. */
    readonly path: string,
    readonly text: string,
  ) {
    for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) this.lineStarts.push(i + 1);
  }

  /** Line and column of an offset, both counted from 1. */
  position(offset: number): { line: number; column: number } {
    let low = 0;
    let high = this.lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.lineStarts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - this.lineStarts[low]! + 1 };
  }

  lineText(line: number): string {
    const end = this.lineStarts[line] ?? this.text.length + 1;
    return this.text.slice(this.lineStarts[line - 1], end - 1).replace(/\r$/, "");
  }
}

export interface Loc {
  readonly source: Source;
  readonly start: number;
  readonly end: number;
}

export function lineOf(loc: Loc): number {
  return loc.source.position(loc.start).line;
}

/** The end of a range, where its closing brace stands. */
export function endOf(loc: Loc): Loc {
  return { ...loc, start: Math.max(loc.start, loc.end - 1) };
}

/** "file.ts:line:col" */
export function describe(loc: Loc): string {
  const { line, column } = loc.source.position(loc.start);
  return `${loc.source.path}:${line}:${column}`;
}
