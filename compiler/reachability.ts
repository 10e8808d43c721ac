/** What the roots reach: the rest is left out. Trap sites get their numbers here. */
import type { CallGraph } from "./check-recursion.ts";
import { type Expr, type Func, type Place, type Program, type RecordType, type SliceType, type Static, type Type, typeName } from "./ir.ts";
import { sitesOf, visitExpressions, visitStatements } from "./walk.ts";

/** `entries`: functions tagged @entry. `exports`: every exported function, as tests want it. */
export type Roots = "entries" | "exports";

export function keepReachable(program: Program, graph: CallGraph, roots: Roots): Program {
  const isRoot = (func: Func): boolean => func.entry || (roots === "exports" && func.exported && func.body !== null);
  const statics = program.statics.filter((one) => one.asm || roots === "exports");
  return reachableFrom(program, graph, program.funcs.filter(isRoot), statics);
}

/** The part of a program that some functions need. */
export function reachableFrom(program: Program, graph: CallGraph, roots: Func[], kept: Static[] = []): Program {
  const found = new Set<Func>();
  const visit = (func: Func): void => {
    if (found.has(func)) return;
    found.add(func);
    graph.get(func)?.forEach(visit);
  };
  roots.forEach(visit);
  const needed = new Set(kept);
  for (const func of found) staticsOf(func, needed);
  const funcs = program.funcs.filter((func) => found.has(func));
  const statics = program.statics.filter((one) => needed.has(one));
  const sites = funcs.flatMap((func) => sitesOf(func.body ?? []));
  sites.forEach((site, id) => { site.id = id; });
  const types = typesIn(program, funcs, statics);
  const structs = program.structs.filter((struct) => !struct.instance || types.has(struct));
  const values = [...types].filter((type): type is RecordType | SliceType => type.kind === "record" || type.kind === "slice");
  return { ...program, structs, values: values.sort((a, b) => typeName(a).localeCompare(typeName(b))), funcs, statics, sites };
}

/** The declared types that are left, and what these are made of. */
function typesIn(program: Program, funcs: Func[], statics: Static[]): Set<Type> {
  const found = new Set<Type>();
  const add = (type: Type): void => {
    switch (type.kind) {
      case "array": return add(type.element);
      case "ref": return add(type.target);
      case "struct":
      case "record":
      case "slice":
        break;
      default: return;
    }
    if (found.has(type)) return;
    found.add(type);
    if (type.kind === "slice") add(type.element);
    if (type.kind === "struct") type.fields.forEach((field) => add(field.type));
    if (type.kind === "record") type.variants.forEach((variant) => variant.fields.forEach((field) => add(field.type)));
  };
  program.structs.forEach((struct) => { if (!struct.instance) add(struct); });
  statics.forEach((one) => add(one.type));
  for (const func of funcs) {
    [...func.params, ...func.temps].forEach((local) => add(local.type));
    add(func.result);
    visitStatements(func.body ?? [], (stmt) => { if (stmt.kind === "let") add(stmt.local.type); });
    visitExpressions(func.body ?? [], (value) => add(value.type));
  }
  return found;
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
