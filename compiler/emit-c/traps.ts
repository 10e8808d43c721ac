/** The texts of the trap sites: one blob and offsets into it, so that no data holds a pointer. */
import type { Site } from "../ir.ts";
import { describe } from "../source.ts";
import { stringLiteral } from "./expression.ts";
import type { Writer } from "./writer.ts";

export function trapText(site: Site): string {
  return `${describe(site.loc)}: ${site.what}`;
}

export function trapTable(out: Writer, sites: Site[]): void {
  const texts = [...sites.map(trapText), "unknown trap"];
  out.line("");
  out.line("__attribute__((unused)) static const char trapBlob[] =");
  out.indented(() => texts.forEach((text, i) => out.line(`${stringLiteral(text).slice(0, -1)}\\0"${i === texts.length - 1 ? ";" : ""}`)));
  out.line("__attribute__((unused)) static const uint32_t trapOffsets[] = {");
  let offset = 0;
  out.indented(() => texts.forEach((text, i) => {
    out.line(`${offset},${i < sites.length ? ` // ${i}` : ""}`);
    offset += Buffer.byteLength(text) + 1;
  }));
  out.line("};");
  out.line("__attribute__((unused)) static const char *trapText(uint32_t site) {");
  out.indented(() => out.line(`return trapBlob + trapOffsets[site < ${sites.length} ? site : ${sites.length}];`));
  out.line("}");
}
