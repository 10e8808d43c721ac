/** What the roots reach: the rest is left out. Trap sites get their numbers here. */
import type { CallGraph } from "./check-recursion.ts";
import type { Expr, Func, Place, Program, Static } from "./ir.ts";
import { sitesOf, visitExpressions, visitStatements } from "./walk.ts";

/** `entries`: functions tagged @entry. `exports`: every exported function, as tests want it. */
export type Roots = "entries" | "exports";

export function keepReachable(program: Program, graph: CallGraph, roots: Roots): Program {
  const funcs = new Set<Func>();
  const visit = (func: Func): void => {
    if (funcs.has(func)) return;
    funcs.add(func);
    graph.get(func)?.forEach(visit);
  };
  for (const func of program.funcs) {
    if (func.entry || (roots === "exports" && func.exported && func.body)) visit(func);
  }
  const statics = new Set<Static>();
  for (const one of program.statics) if (one.asm || roots === "exports") statics.add(one);
  for (const func of funcs) staticsOf(func, statics);
  const kept = program.funcs.filter((func) => funcs.has(func));
  const sites = kept.flatMap((func) => sitesOf(func.body ?? []));
  sites.forEach((site, id) => { site.id = id; });
  return { ...program, funcs: kept, statics: program.statics.filter((one) => statics.has(one)), sites };
}

function staticsOf(func: Func, found: Set<Static>): void {
  const addPlace = (place: Place): void => {
    if (place.kind === "static") found.add(place.static);
  };
  visitExpressions(func.body ?? [], (value: Expr) => {
    if ("place" in value) addPlace(value.place);
  });
  visitStatements(func.body ?? [], (stmt) => {
    if (stmt.kind === "assign") addPlace(stmt.place);
  });
}
