/** The reference entry of a diagnostic: one paragraph of docs/language.md that begins with its code. */
import fs from "node:fs";
import { REFERENCE } from "./files.ts";

/** Every code of the reference with its entry. */
export function entries(): Map<string, string> {
  const found = new Map<string, string>();
  for (const paragraph of fs.readFileSync(REFERENCE, "utf8").split(/\n{2,}/)) {
    const code = /^\*\*(US\d{4})\*\* /.exec(paragraph)?.[1];
    if (code) found.set(code, paragraph.trim().replaceAll("**", ""));
  }
  return found;
}

export function explain(code: string): string | null {
  return entries().get(code.toUpperCase()) ?? null;
}
