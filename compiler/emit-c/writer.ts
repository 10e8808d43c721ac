/**
 * Text of C that mirrors the lines of the TypeScript: what stood on one line there stands on one line here,
 * so that few #line directives tell gdb and gcc where each line came from.
 */
import { type Loc, lineOf } from "../source.ts";

/** Rather blank lines than a directive, up to this many. */
const SMALL_GAP = 3;

export class Writer {
  private readonly lines: string[] = [];
  private depth = 0;
  /** The TypeScript line that the last line of C counts as. */
  private current: { path: string; line: number } | null = null;

  /** A line of its own, or more of the line that the same TypeScript line began. */
  line(text: string, loc?: Loc): void {
    if (!loc) {
      this.push(text);
      return;
    }
    const line = lineOf(loc);
    const { path } = loc.source;
    const gap = this.current?.path === path ? line - this.current.line : -1;
    if (gap === 0) {
      this.lines[this.lines.length - 1] += ` ${text}`;
      return;
    }
    if (gap < 0 || gap > SMALL_GAP) this.lines.push(this.current?.path === path ? `#line ${line}` : `#line ${line} "${path}"`);
    else for (let i = 1; i < gap; i++) this.lines.push("");
    this.lines.push("  ".repeat(this.depth) + text);
    this.current = { path, line };
  }

  indented(work: () => void): void {
    this.depth++;
    work();
    this.depth--;
  }

  block(head: string, loc: Loc, end: Loc, work: () => void): void {
    this.line(head, loc);
    this.indented(work);
    this.line("}", end);
  }

  /** A blank line that counts as no line of TypeScript: the next line says where it is. */
  separate(): void {
    this.lines.push("");
    if (this.current) this.current = { ...this.current, line: -1 };
  }

  toString(): string {
    return `${this.lines.join("\n")}\n`;
  }

  private push(text: string): void {
    this.lines.push(text ? "  ".repeat(this.depth) + text : "");
    if (this.current) this.current.line++;
  }
}
