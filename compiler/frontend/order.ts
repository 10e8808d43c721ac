/**
 * Order of evaluation. Operands are evaluated from left to right; C promises nothing of the kind,
 * so where it would show, the earlier operands go into temporaries.
 */
import type { Expr, Local, Place, Temp, Type } from "../ir.ts";
import { childrenOf, placeChildren } from "../walk.ts";
import type { Scope } from "./front.ts";

/** Builds an expression from operands, which keep their order. */
export function ordered(scope: Scope, operands: Expr[], build: (operands: Expr[]) => Expr): Expr {
  const { temps, values } = hoist(scope, operands);
  const value = build(values);
  return temps.length === 0 ? value : { kind: "sequence", type: value.type, temps, value };
}

export function hoist(scope: Scope, operands: Expr[]): { temps: Temp[]; values: Expr[] } {
  const temps: Temp[] = [];
  const values = operands.map((operand, i) => {
    const later = operands.slice(i + 1);
    const shows = (isImpure(operand) && later.some((other) => !isStable(other))) || (!isStable(operand) && later.some(isImpure));
    return shows ? intoTemp(scope, operand, temps) : operand;
  });
  return { temps, values };
}

/** Operands that are used twice, evaluated once and in order. */
export function repeatable(scope: Scope, operands: Expr[]): { temps: Temp[]; values: Expr[] } {
  const temps: Temp[] = [];
  const settled = operands.findLastIndex((operand) => !isStable(operand));
  const values = operands.map((operand, i) => (i > settled || operand.kind === "const" ? operand : intoTemp(scope, operand, temps)));
  return { temps, values };
}

/** The same place, with operands that can be evaluated twice, or after others. */
export function stabilise(scope: Scope, place: Place, temps: Temp[]): Place {
  switch (place.kind) {
    case "local":
    case "static":
      return place;
    case "field":
      return { ...place, base: stableBase(scope, place.base, temps) };
    case "element": {
      const base = stableBase(scope, place.base, temps);
      return { ...place, base, index: isStable(place.index) ? place.index : intoTemp(scope, place.index, temps) };
    }
  }
}

function stableBase(scope: Scope, base: Expr, temps: Temp[]): Expr {
  if (isStable(base)) return base;
  if (base.kind === "ref") return { ...base, place: stabilise(scope, base.place, temps) };
  return intoTemp(scope, base, temps);
}

function intoTemp(scope: Scope, value: Expr, temps: Temp[]): Expr {
  const local = newTemp(scope, value.type);
  temps.push({ local, value });
  local.reads++;
  return { kind: "load", type: value.type, place: { kind: "local", type: value.type, local } };
}

function newTemp(scope: Scope, type: Type): Local {
  const name = `t${scope.func!.temps.length + 1}`;
  const local: Local = { name, cName: name, type, param: false, align: 0, addressed: false, reads: 0 };
  scope.func!.temps.push(local);
  return local;
}

/** Has an effect that others could see, or sees the effects of others in no order we know. */
export function isImpure(value: Expr): boolean {
  return value.kind === "call" || value.kind === "atomic" || (value.kind === "builtin" && value.name !== "trapText")
    || childrenOf(value).some(isImpure);
}

/** Gives the same now or later, however often: no effect, no memory that may change, no check. */
export function isStable(value: Expr): boolean {
  switch (value.kind) {
    case "const":
    case "string":
    case "null":
      return true;
    case "load":
      return value.place.kind === "local" && !value.place.local.addressed;
    case "ref":
    case "placeAddress":
      return placeChildren(value.place).every(isStable);
    case "notNull":
    case "binary":
    case "convert":
      return value.site === null && childrenOf(value).every(isStable);
    case "shift":
    case "negate":
    case "complement":
    case "compare":
    case "logical":
    case "not":
    case "conditional":
    case "refAddress":
    case "at":
    case "record":
    case "member":
    case "slice":
    case "sliceLength":
      return childrenOf(value).every(isStable);
    default:
      return false;
  }
}
