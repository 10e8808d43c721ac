/** A program as one C file. */
import { type Field, type Func, type Program, type Static, type StructType, type Type, isAggregate } from "../ir.ts";
import { printable } from "../names.ts";
import { constant } from "./expression.ts";
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
  for (const struct of inOrder(program.structs)) emitStruct(out, struct);
  trapTable(out, program.sites);
  emitPrototypes(out, program.funcs, options);
  out.separate();
  for (const one of program.statics) emitStatic(out, one);
  for (const func of program.funcs) if (func.body) emitFunction(out, func);
  return out.toString();
}

/** Structs after those that they embed. */
function inOrder(structs: StructType[]): StructType[] {
  const order = new Set<StructType>();
  const visit = (type: Type): void => {
    if (type.kind === "array") return visit(type.element);
    if (type.kind !== "struct" || order.has(type)) return;
    for (const field of type.fields) visit(field.type);
    order.add(type);
  };
  structs.forEach(visit);
  return [...order];
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
  out.line(struct.packed ? "} __attribute__((packed));" : "};");
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
  out.line(`${linkage}${one.constant ? "const " : ""}${align}${name}${initializer(one)};`, one.loc);
}

function initializer(one: Static): string {
  if (!one.init) return "";
  let next = 0;
  const values = one.init;
  const text = (type: Type): string => {
    if (type.kind === "array") return `{${Array.from({ length: type.length }, () => text(type.element)).join(", ")}}`;
    return constant(stored(type), values[next++]!);
  };
  return ` = ${text(one.type)}`;
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
