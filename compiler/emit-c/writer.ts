/** Lines of C, indented, with #line directives so that tools speak of the TypeScript. */
import { type Loc, lineOf } from "../source.ts";

export class Writer {
  private readonly lines: string[] = [];
  private depth = 0;
  /** The TypeScript line that the next line of C counts as. */
  private current: { path: string; line: number } | null = null;

  line(text: string, loc?: Loc): void {
    if (loc) this.goTo(loc);
    this.lines.push(text ? "  ".repeat(this.depth) + text : "");
    if (this.current) this.current.line++;
  }

  indented(work: () => void): void {
    this.depth++;
    work();
    this.depth--;
  }

  block(head: string, loc: Loc, work: () => void): void {
    this.line(head, loc);
    this.indented(work);
    this.line("}");
  }

  toString(): string {
    return `${this.lines.join("\n")}\n`;
  }

  private goTo(loc: Loc): void {
    const line = lineOf(loc);
    const { path } = loc.source;
    const { current } = this;
    const gap = current?.path === path ? line - current.line : -1;
    if (gap < 0 || gap > 3) this.lines.push(current?.path === path ? `#line ${line}` : `#line ${line} "${path}"`);
    else for (let i = 0; i < gap; i++) this.lines.push("");
    this.current = { path, line };
  }
}
