/** Diagnostics as people read them: place, message, code frame with a caret, what to write instead. */
import type { Diagnostic } from "./diagnostics.ts";
import { describe } from "./source.ts";

export function report(diagnostic: Diagnostic): string {
  const { code, message, instead, loc } = diagnostic;
  const lines = [`${describe(loc)}: error: ${message} [${code}]`, ...frame(diagnostic)];
  if (instead) lines.push(`  write instead: ${instead}`);
  return lines.join("\n");
}

/** Errors that are shown: more than these nobody reads before the next run. */
const MOST = 50;

export function reportAll(diagnostics: Diagnostic[]): string {
  const count = diagnostics.length;
  const more = count > MOST ? `, the first ${MOST} shown` : "";
  return `${diagnostics.slice(0, MOST).map(report).join("\n\n")}\n\n${count} error${count === 1 ? "" : "s"}${more}\n`;
}

/** For editors, all of them: lines and columns counted from 1, the end exclusive. */
export function reportJson(diagnostics: Diagnostic[]): string {
  return `${JSON.stringify(diagnostics.map(({ code, message, instead, loc }) => {
    const start = loc.source.position(loc.start);
    const end = loc.source.position(loc.end);
    return { file: loc.source.path, line: start.line, column: start.column, endLine: end.line, endColumn: end.column, code, message, instead };
  }))}\n`;
}

function frame({ loc }: Diagnostic): string[] {
  const from = loc.source.position(loc.start);
  const to = loc.source.position(Math.max(loc.end, loc.start + 1));
  const text = loc.source.lineText(from.line);
  const endColumn = to.line === from.line ? to.column : text.length + 1;
  const gutter = String(from.line);
  const blank = text.slice(0, from.column - 1).replace(/[^\t]/g, " ");
  const marks = "^" + "~".repeat(Math.max(0, endColumn - from.column - 1));
  return [`  ${gutter} | ${text}`, `  ${" ".repeat(gutter.length)} | ${blank}${marks}`];
}
