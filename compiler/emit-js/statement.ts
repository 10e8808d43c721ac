/** Statements in JavaScript. Twin of emit-c/statement.ts. */
import { type Stmt, type SwitchCase, isAggregate } from "../ir.ts";
import { sizeOf } from "../layout.ts";
import { constant, expression, store, zero } from "./expression.ts";
import type { Frame } from "./frame.ts";

export class Lines {
  readonly lines: string[] = [];
  private depth = 0;

  line(text: string): void {
    this.lines.push("  ".repeat(this.depth) + text);
  }

  block(head: string, work: () => void, tail = "}"): void {
    this.line(head);
    this.depth++;
    work();
    this.depth--;
    this.line(tail);
  }
}

export function statements(out: Lines, frame: Frame, body: Stmt[]): void {
  for (const stmt of body) statement(out, frame, stmt);
}

function statement(out: Lines, frame: Frame, stmt: Stmt): void {
  const nested = (body: Stmt[]) => () => statements(out, frame, body);
  switch (stmt.kind) {
    case "let":
      out.line(`${letText(frame, stmt)};`);
      return;
    case "assign":
    case "expression":
      out.line(`${simple(frame, stmt).join("; ")};`);
      return;
    case "if":
      out.block(`if (${expression(frame, stmt.test)}) {`, nested(stmt.yes));
      if (stmt.no) out.block("else {", nested(stmt.no));
      return;
    case "while":
      out.block(`while (${expression(frame, stmt.test)}) {`, nested(stmt.body));
      return;
    case "doWhile":
      out.block("do {", nested(stmt.body), `} while (${expression(frame, stmt.test)});`);
      return;
    case "for":
      out.block("{", () => {
        statements(out, frame, stmt.init);
        const test = stmt.test ? expression(frame, stmt.test) : "";
        const step = stmt.step.flatMap((one) => simple(frame, one)).join(", ");
        out.block(`for (; ${test}; ${step}) {`, nested(stmt.body));
      });
      return;
    case "switch":
      out.block(`switch (${expression(frame, stmt.value)}) {`, () => stmt.cases.forEach((one) => switchCase(out, frame, one)));
      return;
    case "break":
    case "continue":
      out.line(`${stmt.kind};`);
      return;
    case "return":
      out.line(stmt.value ? `return ${expression(frame, stmt.value)};` : "return;");
      return;
    case "block":
      out.block("{", nested(stmt.body));
      return;
    case "trap":
      out.line(`rt.trap(${stmt.site.id});`);
      return;
  }
}

function switchCase(out: Lines, frame: Frame, one: SwitchCase): void {
  for (const label of one.labels) {
    if (label.kind === "const") out.line(`case ${constant(label.type, label.value)}:`);
  }
  if (one.isDefault) out.line("default:");
  out.block("{", () => {
    statements(out, frame, one.body);
    out.line("break;");
  });
}

function letText(frame: Frame, stmt: Extract<Stmt, { kind: "let" }>): string {
  const { local, init } = stmt;
  if (isAggregate(local.type)) return `rt.memory.fill($fp + ${frame.offsets.get(local)}, 0, ${sizeOf(local.type)})`;
  const value = init ? expression(frame, init) : zero(local.type);
  if (frame.offsets.has(local)) return store(frame, { kind: "local", type: local.type, local }, value);
  return `let ${local.cName} = ${value}`;
}

/** A statement that is an expression: temporaries first. */
function simple(frame: Frame, stmt: Stmt): string[] {
  if (stmt.kind === "expression") return [expression(frame, stmt.value)];
  if (stmt.kind !== "assign") throw new Error(stmt.kind);
  const temps = stmt.temps.map((temp) => `${temp.local.cName} = ${expression(frame, temp.value)}`);
  return [...temps, store(frame, stmt.place, expression(frame, stmt.value))];
}
