/** A program as one C file. */
import {
  type Field, type Func, type Init, type Program, type RecordField, type RecordType, type SliceType, type Static, type StructType, type Type,
  isAggregate,
} from "../ir.ts";
import { sizeOf } from "../layout.ts";
import { printable } from "../names.ts";
import { constant, recordBraces } from "./expression.ts";
import { statements } from "./statement.ts";
import { trapTable } from "./traps.ts";
import { declare, signature, stored } from "./types.ts";
import { Writer } from "./writer.ts";

export interface COptions {
  /** Header that declares the external functions, instead of prototypes here. */
  externals?: string | undefined;
}

export function emitC(program: Program, options: COptions = {}): string {
  const out = new Writer();
  out.line("// Made by the Understudy compiler from the TypeScript that the #line directives name.");
  out.line('#include "runtime.h"');
  if (options.externals) out.line(`#include "${options.externals}"`);
  for (const type of inOrder([...program.structs, ...program.values])) emitType(out, type);
  trapTable(out, program.sites);
  emitPrototypes(out, program.funcs, options);
  out.separate();
  for (const one of program.statics) emitStatic(out, one);
  for (const func of program.funcs) if (func.body) emitFunction(out, func);
  return out.toString();
}

/** Elements of a table on one line. */
const ROW = 8;

type Declared = StructType | RecordType | SliceType;

/** Types after those that they embed. */
function inOrder(types: Declared[]): Declared[] {
  const order = new Set<Declared>();
  const visit = (type: Type): void => {
    if (type.kind === "array") return visit(type.element);
    if ((type.kind !== "struct" && type.kind !== "record" && type.kind !== "slice") || order.has(type)) return;
    if (type.kind === "struct") for (const field of type.fields) visit(field.type);
    if (type.kind === "record") for (const variant of type.variants) for (const field of variant.fields) visit(field.type);
    if (type.kind === "slice" && type.element.kind === "array") visit(type.element); // C wants to know the size of what an array holds
    order.add(type);
  };
  types.forEach(visit);
  return [...order];
}

function emitType(out: Writer, type: Declared): void {
  if (type.kind === "struct") return emitStruct(out, type);
  out.line("");
  out.line(`struct ${type.cName} {`);
  out.indented(() => {
    if (type.kind === "record") return recordFields(out, type);
    out.line(`${declare(stored(type.element), "*data")};`);
    out.line("uint32_t length;");
  });
  out.line("};");
  out.line(`_Static_assert(sizeof(struct ${type.cName}) == ${sizeOf(type)}, "layout");`);
}

/** The tag, then the fields, or a union of what the variants have. */
function recordFields(out: Writer, { tag, variants }: RecordType): void {
  const field = (one: RecordField): void => out.line(`${declare(stored(one.type), printable(one.name))};`);
  if (tag) field(tag);
  if (variants.length === 1) return variants[0]!.fields.forEach(field);
  if (variants.every((variant) => variant.fields.length === 0)) return;
  out.line("union {");
  out.indented(() => {
    for (const { fields, member } of variants) {
      if (!member) {
        fields.forEach(field);
        continue;
      }
      out.line("struct {");
      out.indented(() => fields.forEach(field));
      out.line(`} ${printable(member)};`);
    }
  });
  out.line("};");
}

function emitStruct(out: Writer, struct: StructType): void {
  out.line("");
  out.line(`struct ${struct.cName} {`);
  const fields = (): void => {
    for (const field of struct.fields) out.line(`${declare(stored(field.type), printable(field.name))};`);
  };
  out.indented(() => {
    if (!struct.union) return fields();
    out.line("union {");
    out.indented(fields);
    out.line("};");
  });
  const attribute = struct.packed ? " __attribute__((packed))" : struct.aligned > 1 ? ` __attribute__((aligned(${struct.aligned})))` : "";
  out.line(`}${attribute};`);
  const offsets = struct.fields.map((field: Field) => `offsetof(struct ${struct.cName}, ${printable(field.name)}) == ${field.offset}`);
  const checks = [`sizeof(struct ${struct.cName}) == ${struct.size}`, ...offsets];
  for (const check of checks) out.line(`_Static_assert(${check}, "layout");`);
}

function emitPrototypes(out: Writer, funcs: Func[], options: COptions): void {
  out.line("");
  for (const func of funcs) {
    if (func.body === null && options.externals) continue;
    out.line(`${signature(func)};`);
  }
}

function emitStatic(out: Writer, one: Static): void {
  const linkage = one.asm ? "" : "static ";
  const align = isAggregate(one.type) && one.align > 1 ? `_Alignas(${one.align}) ` : "";
  const name = declare(one.type, one.cName);
  const head = `${linkage}${one.constant ? "const " : ""}${align}${name}`;
  const { init, type } = one;
  if (init === null) return out.line(`${head};`, one.loc);
  if (type.kind !== "array" || type.length <= ROW) return out.line(`${head} = ${initText(type, init)};`, one.loc);
  const texts = elements(init).map((value) => initText(type.element, value));
  out.line(`${head} = {`, one.loc);
  out.indented(() => {
    for (let i = 0; i < texts.length; i += ROW) out.line(`${texts.slice(i, i + ROW).join(", ")},`);
  });
  out.line("};");
}

function initText(type: Type, init: Init): string {
  if (typeof init === "bigint") return type.kind === "ref" ? "NULL" : constant(stored(type), init);
  if (type.kind === "array") return `{${elements(init).map((one) => initText(type.element, one)).join(", ")}}`;
  if (type.kind === "struct") return `{${type.fields.map((field, i) => `.${printable(field.name)} = ${initText(field.type, elements(init)[i]!)}`).join(", ")}}`;
  if (type.kind !== "record" || !("variant" in init)) throw new Error(type.kind);
  return recordBraces(type, init.variant, init.variant.fields.map((field, i) => initText(field.type, init.values[i]!)));
}

function elements(init: Init): readonly Init[] {
  if (typeof init === "bigint" || "variant" in init) throw new Error("not a list");
  return init;
}

function emitFunction(out: Writer, func: Func): void {
  out.separate();
  if (func.doc) out.line(`// ${func.doc}`);
  out.block(`${signature(func)} {`, func.loc, func.end, () => {
    for (const temp of func.temps) out.line(`${declare(temp.type, temp.cName)};`, func.loc);
    for (const param of func.params) if (param.reads === 0) out.line(`(void)${param.cName};`, func.loc);
    statements(out, func.body!);
  });
}
