/** No recursion: the call graph has no cycle, so the worst-case stack is known. */
import { type Diagnostic, refuse } from "./diagnostics.ts";
import type { Expr, Func, Program } from "./ir.ts";
import type { Loc } from "./source.ts";
import { visitExpressions } from "./walk.ts";

export type CallGraph = Map<Func, Set<Func>>;

export function callGraph(program: Program): CallGraph {
  const graph: CallGraph = new Map();
  for (const func of program.funcs) graph.set(func, calleesOf(func));
  return graph;
}

function calleesOf(func: Func): Set<Func> {
  const callees = new Set<Func>();
  visitExpressions(func.body ?? [], (value: Expr) => {
    if (value.kind === "call") callees.add(value.func);
  });
  return callees;
}

export function checkRecursion(graph: CallGraph): Diagnostic[] {
  const errors: Diagnostic[] = [];
  const done = new Set<Func>();
  const path: Func[] = [];
  const visit = (func: Func): void => {
    const start = path.indexOf(func);
    if (start >= 0) {
      const cycle = [...path.slice(start), func];
      const loc: Loc = func.loc;
      errors.push(refuse.recursion(loc, cycle.map((one) => one.name)).diagnostic);
      return;
    }
    if (done.has(func)) return;
    path.push(func);
    for (const callee of graph.get(func) ?? []) visit(callee);
    path.pop();
    done.add(func);
  };
  for (const func of graph.keys()) visit(func);
  return errors;
}

/** Functions so that each comes after those that it calls. Only for a graph without cycles. */
export function calleesFirst(graph: CallGraph): Func[] {
  const order = new Set<Func>();
  const visit = (func: Func): void => {
    if (order.has(func)) return;
    for (const callee of graph.get(func) ?? []) visit(callee);
    order.add(func);
  };
  for (const func of graph.keys()) visit(func);
  return [...order];
}
