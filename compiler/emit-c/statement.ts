/** Statements in C. Twin of emit-js/statement.ts. */
import { type Expr, type Stmt, type SwitchCase, isAggregate } from "../ir.ts";
import { endOf } from "../source.ts";
import { constant, expression, initializer, place } from "./expression.ts";
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
      out.block(`while (${expression(stmt.test)}) {`, stmt.loc, endOf(stmt.loc), () => statements(out, stmt.body));
      return;
    case "doWhile":
      out.line("do {", stmt.loc);
      out.indented(() => statements(out, stmt.body));
      out.line(`} while (${expression(stmt.test)});`, endOf(stmt.loc));
      return;
    case "for":
      forLoop(out, stmt);
      return;
    case "switch":
      out.block(`switch (${expression(stmt.value)}) {`, stmt.loc, endOf(stmt.loc), () => stmt.cases.forEach((one) => switchCase(out, one)));
      return;
    case "break":
    case "continue":
      out.line(`${stmt.kind};`, stmt.loc);
      return;
    case "return":
      out.line(stmt.value ? `return ${expression(stmt.value)};` : "return;", stmt.loc);
      return;
    case "block":
      out.block("{", stmt.loc, endOf(stmt.loc), () => statements(out, stmt.body));
      return;
    case "trap":
      out.line(`onTrap(${stmt.site.id});`, stmt.loc);
      return;
  }
}

function ifBody(out: Writer, stmt: Extract<Stmt, { kind: "if" }>): void {
  out.indented(() => statements(out, stmt.yes));
  const { no, noLoc } = stmt;
  if (!no || !noLoc) return out.line("}", endOf(stmt.loc));
  const nested = no.length === 1 && no[0]!.kind === "if" ? no[0] : null;
  if (nested) {
    out.line(`} else if (${expression(nested.test)}) {`, noLoc);
    return ifBody(out, nested);
  }
  out.block("} else {", noLoc, endOf(noLoc), () => statements(out, no));
}

function forLoop(out: Writer, stmt: Extract<Stmt, { kind: "for" }>): void {
  const test = stmt.test ? ` ${expression(stmt.test)}` : "";
  const step = stmt.step.flatMap(simple).join(", ");
  const loop = (init: string): void => {
    out.block(`for (${init};${test};${step ? ` ${step}` : ""}) {`, stmt.loc, endOf(stmt.loc), () => statements(out, stmt.body));
  };
  const [only] = stmt.init;
  if (!only) return loop("");
  if (stmt.init.length === 1) return loop(only.kind === "let" ? letText(only) : simple(only).join(", "));
  out.block("{", stmt.loc, endOf(stmt.loc), () => {
    statements(out, stmt.init);
    loop("");
  });
}

function switchCase(out: Writer, one: SwitchCase): void {
  const labels = one.labels.map((label) => (label.kind === "const" ? `case ${constant(label.type, label.value, label.name, label.hex)}:` : ""));
  if (one.isDefault) labels.push("default:");
  out.block(`${labels.join(" ")} {`, one.loc, endOf(one.loc), () => {
    statements(out, one.body);
    if (!endsAlready(one.body)) out.line("break;", endOf(one.loc));
  });
}

function endsAlready(body: Stmt[]): boolean {
  const last = body.at(-1)?.kind;
  return last === "return" || last === "trap" || last === "continue";
}

function letText(stmt: Extract<Stmt, { kind: "let" }>): string {
  const { local, init } = stmt;
  const align = local.align > 0 ? `_Alignas(${local.align}) ` : "";
  const unused = local.reads === 0 ? "__attribute__((unused)) " : "";
  const zero = isAggregate(local.type) || local.type.kind === "record" || local.type.kind === "slice" ? "{0}" : local.type.kind === "ref" || local.type.kind === "string" ? "NULL" : "0";
  return `${align}${unused}${declare(local.type, local.cName)} = ${init ? initializer(init) : zero}`;
}

/** A statement that is an expression: temporaries first. */
function simple(stmt: Stmt): string[] {
  if (stmt.kind === "expression") return [expression(stmt.value)];
  if (stmt.kind !== "assign") throw new Error(stmt.kind);
  const temps = stmt.temps.map((temp) => `${temp.local.cName} = ${expression(temp.value)}`);
  return [...temps, assignment(place(stmt.place), stmt.value)];
}

/** `x += y` where it is that, and C computes it in the same width. */
function assignment(target: string, value: Expr): string {
  const isWide = value.type.kind === "int" && value.type.bits >= 32 && !value.type.signed;
  const isPlain = value.kind === "binary" && value.site === null && isWide && expression(value.left) === target;
  if (!isPlain) return `${target} = ${expression(value)}`;
  if (value.right.kind === "const" && value.right.value === 1n && (value.op === "+" || value.op === "-")) return `${target}${value.op}${value.op}`;
  return `${target} ${value.op}= ${expression(value.right)}`;
}
