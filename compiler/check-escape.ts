/**
 * References do not outlive what they refer to: one to a function's own storage is not returned and not stored
 * in a field or static variable, also not by a function that it is passed to. And nobody writes a constant table
 * through a reference. Without recursion one walk with callees first knows what each function does to its parameters.
 */
import { type CallGraph, calleesFirst } from "./check-recursion.ts";
import { type Diagnostic, refuse } from "./diagnostics.ts";
import { type Expr, type Func, type Local, type Place, type Static, type Stmt, holdsReference, isAggregate } from "./ir.ts";
import type { Loc } from "./source.ts";
import { childrenOf, expressionsOf, visitStatements } from "./walk.ts";

/** What a function does with the reference in each parameter, and which constant tables it gives. */
interface Effects { stores: boolean[]; returns: boolean[]; writes: boolean[]; gives: Set<Static> }

/** What a reference may refer to: storage on the stack, what a parameter refers to, a constant table. */
type Origin = Local | Static;

export function checkEscape(graph: CallGraph): Diagnostic[] {
  const errors: Diagnostic[] = [];
  const effects = new Map<Func, Effects>();
  for (const func of calleesFirst(graph)) effects.set(func, checkFunction(func, effects, errors));
  return errors;
}

function checkFunction(func: Func, known: Map<Func, Effects>, errors: Diagnostic[]): Effects {
  const none = (): boolean[] => func.params.map(() => false);
  const effects: Effects = { stores: none(), returns: none(), writes: none(), gives: new Set() };
  const origins = new Map<Local, Set<Origin>>(func.params.map((param) => [param, new Set([param])]));
  settle(func, origins, known);

  const escape = (value: Expr, loc: Loc, list: boolean[]): void => {
    for (const origin of originsOf(value, origins, known)) {
      if (!("param" in origin)) {
        if (list === effects.returns) effects.gives.add(origin);
        else errors.push(refuse.constantWritten(loc, origin.name).diagnostic);
      } else if (origin.param) list[func.params.indexOf(origin)] = true;
      else errors.push(refuse.escapes(loc, origin.name).diagnostic);
    }
  };
  const write = (base: Expr, loc: Loc): void => {
    for (const origin of originsOf(base, origins, known)) {
      if (!("param" in origin)) errors.push(refuse.constantWritten(loc, origin.name).diagnostic);
      else if (origin.param) effects.writes[func.params.indexOf(origin)] = true;
    }
  };
  const visit = (value: Expr, loc: Loc): void => {
    for (const child of childrenOf(value)) visit(child, loc);
    if (value.kind === "atomic" && value.op !== "atomicLoad") writePlace(value.place, loc, write);
    if (value.kind !== "call") return;
    const callee = known.get(value.func);
    value.args.forEach((arg, i) => {
      if (callee?.stores[i]) escape(arg, loc, effects.stores);
      if (callee?.writes[i]) write(arg, loc);
    });
  };
  visitStatements(func.body ?? [], (stmt) => {
    for (const value of expressionsOf(stmt)) visit(value, stmt.loc);
    if (stmt.kind === "return" && stmt.value) escape(stmt.value, stmt.loc, effects.returns);
    if (stmt.kind !== "assign") return;
    writePlace(stmt.place, stmt.loc, write);
    if (stmt.place.kind !== "local") escape(stmt.value, stmt.loc, effects.stores);
  });
  return effects;
}

function writePlace(place: Place, loc: Loc, write: (base: Expr, loc: Loc) => void): void {
  if (place.kind === "field" || place.kind === "element") write(place.base, loc);
}

/** What each local may refer to, until nothing is added. */
function settle(func: Func, origins: Map<Local, Set<Origin>>, known: Map<Func, Effects>): void {
  let changed = true;
  const add = (local: Local, value: Expr): void => {
    const set = origins.get(local) ?? new Set();
    for (const origin of originsOf(value, origins, known)) {
      if (!set.has(origin)) changed = true;
      set.add(origin);
    }
    origins.set(local, set);
  };
  const addTemps = (value: Expr): void => {
    childrenOf(value).forEach(addTemps);
    if (value.kind === "sequence") value.temps.forEach((temp) => add(temp.local, temp.value));
  };
  const visit = (stmt: Stmt): void => {
    expressionsOf(stmt).forEach(addTemps);
    if (stmt.kind === "let" && stmt.init) add(stmt.local, stmt.init);
    if (stmt.kind !== "assign") return;
    stmt.temps.forEach((temp) => add(temp.local, temp.value));
    if (stmt.place.kind === "local") add(stmt.place.local, stmt.value);
  };
  while (changed) {
    changed = false;
    visitStatements(func.body ?? [], visit);
  }
}

function originsOf(value: Expr, origins: Map<Local, Set<Origin>>, known: Map<Func, Effects>): Origin[] {
  if (!holdsReference(value.type)) return [];
  const of = (inner: Expr): Origin[] => originsOf(inner, origins, known);
  switch (value.kind) {
    case "ref": return originsOfPlace(value.place, of);
    // A pointer in memory never refers to the stack.
    case "load": return value.place.kind === "local" ? [...(origins.get(value.place.local) ?? [])] : [];
    case "notNull": return of(value.value);
    case "conditional": return [...of(value.yes), ...of(value.no)];
    case "sequence":
    case "member":
      return of(value.value);
    case "record": return value.values.flatMap(of);
    case "slice": return of(value.base);
    case "call": {
      const callee = known.get(value.func);
      return [...value.args.flatMap((arg, i) => (callee?.returns[i] ? of(arg) : [])), ...(callee?.gives ?? [])];
    }
    default: return [];
  }
}

function originsOfPlace(place: Place, of: (value: Expr) => Origin[]): Origin[] {
  switch (place.kind) {
    case "local": return isAggregate(place.local.type) ? [place.local] : [];
    case "static": return place.static.constant ? [place.static] : [];
    default: return of(place.base);
  }
}
