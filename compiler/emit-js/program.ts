/** A program as the text of one JavaScript function of the runtime, which returns the compiled functions. */
import type { Func, Program, RecordField, RecordType, Static, Type } from "../ir.ts";
import { printable } from "../names.ts";
import { constant, loadAt, store, storeAt } from "./expression.ts";
import { frameOf } from "./frame.ts";
import { Lines, statements } from "./statement.ts";

export function emitJs(program: Program, addresses: Map<Static, number>): string {
  const out = new Lines();
  out.line('"use strict";');
  for (const one of program.statics) out.line(`const $${one.cName} = ${addresses.get(one)};`);
  for (const type of program.values) if (type.kind === "record") emitRecord(out, type);
  const bodies = program.funcs.filter((func) => func.body);
  for (const func of bodies) emitFunction(out, func);
  out.line(`return { ${bodies.map((func) => func.cName).join(", ")} };`);
  return out.lines.join("\n");
}

/** How a record is read from memory and written to it. */
function emitRecord(out: Lines, type: RecordType): void {
  const { tag, variants, cName } = type;
  if (!isStorable(type)) return;
  const at = (offset: number): string => (offset === 0 ? "at" : `at + ${offset}`);
  const load = (fields: readonly RecordField[]): string => fields.map((field) => `${printable(field.name)}: ${loadAt(field.type, at(field.offset))}`).join(", ");
  const store = (fields: readonly RecordField[]): string =>
    fields.map((field) => `${storeAt(field.type, at(field.offset), `value.${printable(field.name)}`)};`).join(" ");
  const tagName = tag && printable(tag.name);
  out.block(`function $load${cName}(at) {`, () => {
    if (!tag) return out.line(`return { ${load(variants[0]!.fields)} };`);
    out.line(`const ${tagName} = ${loadAt(tag.type, "at")};`);
    for (const { value, fields } of variants) out.line(`if (${tagName} === ${constant(tag.type, value)}) return { ${[tagName, load(fields)].join(", ")} };`);
    // Only foreign bytes can be this. C sees them as whatever is asked for.
    out.line(`return { ${tagName}, ${variants.map((variant) => load(variant.fields)).filter(Boolean).join(", ")} };`);
  });
  out.block(`function $store${cName}(at, value) {`, () => {
    if (!tag) return out.line(store(variants[0]!.fields));
    out.line(storeAt(tag.type, "at", `value.${tagName}`));
    for (const { value, fields } of variants) if (fields.length > 0) out.line(`if (value.${tagName} === ${constant(tag.type, value)}) { ${store(fields)} }`);
  });
}

/** Strings lie in no memory. */
function isStorable(type: Type): boolean {
  return type.kind !== "string" && (type.kind !== "record" || type.variants.every((variant) => variant.fields.every((field) => isStorable(field.type))));
}

function emitFunction(out: Lines, func: Func): void {
  const frame = frameOf(func);
  const params = func.params.map((param) => param.cName).join(", ");
  out.block(`function ${func.cName}(${params}) {`, () => {
    if (func.temps.length > 0) out.line(`let ${func.temps.map((temp) => temp.cName).join(", ")};`);
    if (frame.size === 0) {
      statements(out, frame, func.body!);
      return;
    }
    out.line(`const $sp = rt.stack, $fp = rt.enter(${frame.size}, ${frame.align});`);
    out.block("try {", () => {
      for (const param of func.params) {
        if (frame.offsets.has(param)) out.line(`${store(frame, { kind: "local", type: param.type, local: param }, param.cName)};`);
      }
      statements(out, frame, func.body!);
    }, "} finally { rt.stack = $sp; }");
  });
}

