/** A program as the text of one JavaScript function of the runtime, which returns the compiled functions. */
import type { Func, Program, Static } from "../ir.ts";
import { store } from "./expression.ts";
import { frameOf } from "./frame.ts";
import { Lines, statements } from "./statement.ts";

export function emitJs(program: Program, addresses: Map<Static, number>): string {
  const out = new Lines();
  out.line('"use strict";');
  for (const one of program.statics) out.line(`const $${one.cName} = ${addresses.get(one)};`);
  const bodies = program.funcs.filter((func) => func.body);
  for (const func of bodies) emitFunction(out, func);
  out.line(`return { ${bodies.map((func) => func.cName).join(", ")} };`);
  return out.lines.join("\n");
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

