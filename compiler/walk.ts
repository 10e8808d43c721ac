/** Walks over the IR. */
import type { Expr, Place, Site, Stmt } from "./ir.ts";

/** The operands of an expression, in order of evaluation. */
export function childrenOf(value: Expr): Expr[] {
  switch (value.kind) {
    case "const":
    case "string":
    case "null":
      return [];
    case "load":
    case "ref":
    case "placeAddress":
      return placeChildren(value.place);
    case "binary":
    case "shift":
    case "compare":
    case "logical":
      return [value.left, value.right];
    case "conditional":
      return [value.test, value.yes, value.no];
    case "call":
    case "builtin":
      return value.args;
    case "checkIndex":
      return typeof value.length === "number" ? [value.value] : [value.value, value.length];
    case "checkRange":
      return [value.from, value.to, value.length];
    case "record":
      return value.values;
    case "slice":
      return value.from ? [value.base, value.from, value.length] : [value.base, value.length];
    case "atomic":
      return value.value ? [...placeChildren(value.place), value.value] : placeChildren(value.place);
    case "sequence":
      return [...value.temps.map((temp) => temp.value), value.value];
    default:
      return [value.value];
  }
}

export function placeChildren(place: Place): Expr[] {
  switch (place.kind) {
    case "local":
    case "static":
      return [];
    case "field":
      return [place.base];
    case "element":
      return [place.base, place.index];
  }
}

export function placeOf(value: Expr): Place | null {
  return "place" in value ? value.place : null;
}

/** Calls back for each expression of the statements, operands before the whole. */
export function visitExpressions(body: Stmt[], visit: (value: Expr) => void): void {
  const walk = (value: Expr): void => {
    childrenOf(value).forEach(walk);
    visit(value);
  };
  visitStatements(body, (stmt) => expressionsOf(stmt).forEach(walk));
}

/** The expressions that stand directly in a statement. */
export function expressionsOf(stmt: Stmt): Expr[] {
  switch (stmt.kind) {
    case "let":
      return stmt.init ? [stmt.init] : [];
    case "assign":
      return [...stmt.temps.map((temp) => temp.value), ...placeChildren(stmt.place), stmt.value];
    case "expression":
      return [stmt.value];
    case "if":
    case "while":
    case "doWhile":
      return [stmt.test];
    case "for":
      return stmt.test ? [stmt.test] : [];
    case "switch":
      return [stmt.value];
    case "return":
      return stmt.value ? [stmt.value] : [];
    default:
      return [];
  }
}

export function visitStatements(body: Stmt[], visit: (stmt: Stmt) => void): void {
  for (const stmt of body) {
    visit(stmt);
    for (const nested of nestedStatements(stmt)) visitStatements(nested, visit);
  }
}

export function nestedStatements(stmt: Stmt): Stmt[][] {
  switch (stmt.kind) {
    case "if": return stmt.no ? [stmt.yes, stmt.no] : [stmt.yes];
    case "while":
    case "doWhile":
    case "block":
      return [stmt.body];
    case "for": return [stmt.init, stmt.step, stmt.body];
    case "switch": return stmt.cases.map((one) => one.body);
    default: return [];
  }
}

/** The trap sites of a function's body, in order. */
export function sitesOf(body: Stmt[]): Site[] {
  const sites: Site[] = [];
  const visit = (value: Expr): void => {
    childrenOf(value).forEach(visit);
    if ("site" in value && value.site) sites.push(value.site);
  };
  visitStatements(body, (stmt) => {
    expressionsOf(stmt).forEach(visit);
    if (stmt.kind === "trap") sites.push(stmt.site);
  });
  return sites;
}
