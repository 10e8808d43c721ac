/** Statements in C. Twin of emit-js/statement.ts. */
import { type Stmt, type SwitchCase, isAggregate } from "../ir.ts";
import { constant, expression, place } from "./expression.ts";
import { declare } from "./types.ts";
import type { Writer } from "./writer.ts";

export function statements(out: Writer, body: Stmt[]): void {
  for (const stmt of body) statement(out, stmt);
}

function statement(out: Writer, stmt: Stmt): void {
  switch (stmt.kind) {
    case "let":
      out.line(`${letText(stmt)};`, stmt.loc);
      return;
    case "assign":
    case "expression":
      out.line(`${simple(stmt).join("; ")};`, stmt.loc);
      return;
    case "if":
      out.line(`if (${expression(stmt.test)}) {`, stmt.loc);
      ifBody(out, stmt);
      return;
    case "while":
      out.block(`while (${expression(stmt.test)}) {`, stmt.loc, () => statements(out, stmt.body));
      return;
    case "doWhile":
      out.line("do {", stmt.loc);
      out.indented(() => statements(out, stmt.body));
      out.line(`} while (${expression(stmt.test)});`);
      return;
    case "for": {
      const only = stmt.init.length === 1 ? stmt.init[0]! : null;
      const inHead = only === null ? stmt.init.length === 0 : simpleInit(only);
      if (!inHead) {
        out.block("{", stmt.loc, () => {
          statements(out, stmt.init);
          forLoop(out, stmt, "");
        });
        return;
      }
      forLoop(out, stmt, only ? (only.kind === "let" ? letText(only) : simple(only).join(", ")) : "");
      return;
    }
    case "switch":
      out.line(`switch (${expression(stmt.value)}) {`, stmt.loc);
      for (const one of stmt.cases) switchCase(out, one);
      out.line("}");
      return;
    case "break":
    case "continue":
      out.line(`${stmt.kind};`, stmt.loc);
      return;
    case "return":
      out.line(stmt.value ? `return ${expression(stmt.value)};` : "return;", stmt.loc);
      return;
    case "block":
      out.block("{", stmt.loc, () => statements(out, stmt.body));
      return;
    case "trap":
      out.line(`onTrap(${stmt.site.id});`, stmt.loc);
      return;
  }
}

function ifBody(out: Writer, stmt: Extract<Stmt, { kind: "if" }>): void {
  out.indented(() => statements(out, stmt.yes));
  const { no } = stmt;
  if (!no) return out.line("}");
  if (no.length === 1 && no[0]!.kind === "if") {
    out.line(`} else if (${expression(no[0].test)}) {`);
    return ifBody(out, no[0]);
  }
  out.line("} else {");
  out.indented(() => statements(out, no));
  out.line("}");
}

function forLoop(out: Writer, stmt: Extract<Stmt, { kind: "for" }>, init: string): void {
  const test = stmt.test ? ` ${expression(stmt.test)}` : "";
  const step = stmt.step.flatMap(simple).join(", ");
  out.block(`for (${init};${test};${step ? ` ${step}` : ""}) {`, stmt.loc, () => statements(out, stmt.body));
}

function switchCase(out: Writer, one: SwitchCase): void {
  for (const label of one.labels) {
    if (label.kind === "const") out.line(`case ${constant(label.type, label.value, label.name)}:`);
  }
  if (one.isDefault) out.line("default:");
  out.line("{");
  out.indented(() => {
    statements(out, one.body);
    if (!endsAlready(one.body)) out.line("break;");
  });
  out.line("}");
}

function endsAlready(body: Stmt[]): boolean {
  const last = body.at(-1)?.kind;
  return last === "return" || last === "trap" || last === "continue";
}

function simpleInit(stmt: Stmt): boolean {
  return stmt.kind === "assign" || stmt.kind === "expression" || stmt.kind === "let";
}

function letText(stmt: Extract<Stmt, { kind: "let" }>): string {
  const { local, init } = stmt;
  const align = local.align > 0 ? `_Alignas(${local.align}) ` : "";
  const unused = local.reads === 0 ? "__attribute__((unused)) " : "";
  const zero = isAggregate(local.type) ? "{0}" : local.type.kind === "ref" || local.type.kind === "string" ? "NULL" : "0";
  return `${align}${unused}${declare(local.type, local.cName)} = ${init ? expression(init) : zero}`;
}

/** A statement that is an expression: temporaries first. */
function simple(stmt: Stmt): string[] {
  if (stmt.kind === "expression") return [expression(stmt.value)];
  if (stmt.kind !== "assign") throw new Error(stmt.kind);
  const temps = stmt.temps.map((temp) => `${temp.local.cName} = ${expression(temp.value)}`);
  return [...temps, `${place(stmt.place)} = ${expression(stmt.value)}`];
}
