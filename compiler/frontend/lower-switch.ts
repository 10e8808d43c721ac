/** switch: constant labels, no falling through, exhaustive over enumerations. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { BOOL, type Expr, type IntType, type Stmt, type SwitchCase, type Variant, typeName } from "../ir.ts";
import { coerce } from "./coerce.ts";
import type { Scope } from "./front.ts";
import { endOf } from "../source.ts";
import { lowerExpression } from "./lower-expression.ts";
import { variantsAt } from "./lower-record.ts";
import { lowerStatements } from "./lower-statement.ts";
import { site } from "./sites.ts";

export function lowerSwitch(scope: Scope, node: ts.SwitchStatement): Stmt[] {
  const { front } = scope;
  const value = lowerExpression(scope, node.expression);
  if (value.type.kind !== "int") throw refuse.needsInteger(front.loc(node.expression), "switch", typeName(value.type));
  const cases: SwitchCase[] = [];
  const seen = new Set<bigint>();
  let labels: Expr[] = [];
  let isDefault = false;
  let first: ts.CaseOrDefaultClause | null = null;
  const { clauses } = node.caseBlock;
  clauses.forEach((clause, i) => {
    first ??= clause;
    if (ts.isDefaultClause(clause)) isDefault = true;
    else labels.push(label(scope, clause, value.type as IntType, seen));
    const last = i === clauses.length - 1;
    if (clause.statements.length === 0 && !last) return;
    if (!last && !endsHere(clause.statements, front.program.checker)) throw refuse.fallsThrough(front.loc(clause));
    cases.push({ loc: { ...front.loc(clause), start: first.getStart() }, labels, isDefault, body: clauseBody(scope, clause) });
    labels = [];
    isDefault = false;
    first = null;
  });
  if (!cases.some((one) => one.isDefault)) closeSwitch(scope, node, value, cases, seen);
  return [{ kind: "switch", loc: front.loc(node), value, cases }];
}

function label(scope: Scope, clause: ts.CaseClause, type: IntType, seen: Set<bigint>): Expr {
  const loc = scope.front.loc(clause.expression);
  const found = lowerExpression(scope, clause.expression);
  if (found.kind !== "const" || found.type === BOOL) throw refuse.caseLabel(loc);
  const value = coerce(scope, found, type, clause.expression);
  if (value.kind !== "const") throw refuse.caseLabel(loc);
  if (seen.has(value.value)) throw refuse.duplicateCase(loc, clause.expression.getText());
  seen.add(value.value);
  return value;
}

/** Without default: an enumeration has to be covered, and another value traps. */
function closeSwitch(scope: Scope, node: ts.SwitchStatement, value: Expr, cases: SwitchCase[], seen: Set<bigint>): void {
  const declaration = value.type.kind === "int" ? value.type.enum : undefined;
  if (!declaration) return;
  const members = tagsAt(scope, node.expression, value) ?? [...declaration.members].map(([name, member]) => ({ label: `${declaration.name}.${name}`, value: member }));
  const missing = members.filter((member) => !seen.has(member.value)).map((member) => member.label);
  if (missing.length > 0) throw refuse.notExhaustive(scope.front.loc(node.expression), missing);
  const end = endOf(scope.front.loc(node));
  const trap: Stmt = { kind: "trap", loc: end, site: site(scope, node.expression, `not a member of ${declaration.name}`) };
  cases.push({ loc: end, labels: [], isDefault: true, body: [trap] });
}

/** The variants that are left of the record whose tag this is; null if it is no record's. */
function tagsAt(scope: Scope, node: ts.Expression, value: Expr): readonly Pick<Variant, "label" | "value">[] | null {
  if (value.kind !== "member" || value.variant || value.value.type.kind !== "record") return null;
  const isLocal = value.value.kind === "load" && value.value.place.kind === "local";
  const { variants } = value.value.type;
  return isLocal && ts.isPropertyAccessExpression(node) ? variantsAt(scope, node.expression, value.value.type) : variants;
}

function clauseBody(scope: Scope, clause: ts.CaseOrDefaultClause): Stmt[] {
  const only = clause.statements.length === 1 ? clause.statements[0]! : null;
  const statements = only && ts.isBlock(only) ? only.statements : clause.statements;
  if (!only || !ts.isBlock(only)) {
    const declaration = clause.statements.find(ts.isVariableStatement);
    if (declaration) throw scope.front.refuse(declaration, "caseDeclaration");
  }
  const body = lowerStatements(scope, statements);
  if (body.at(-1)?.kind === "break") body.pop();
  return body;
}

/** Whether control never leaves the statements at their end. */
function endsHere(statements: readonly ts.Statement[], checker: ts.TypeChecker): boolean {
  const last = statements.at(-1);
  if (!last) return false;
  switch (last.kind) {
    case ts.SyntaxKind.BreakStatement:
    case ts.SyntaxKind.ContinueStatement:
    case ts.SyntaxKind.ReturnStatement:
      return true;
    case ts.SyntaxKind.Block:
      return endsHere((last as ts.Block).statements, checker);
    case ts.SyntaxKind.IfStatement: {
      const { thenStatement, elseStatement } = last as ts.IfStatement;
      return elseStatement !== undefined && endsHere([thenStatement], checker) && endsHere([elseStatement], checker);
    }
    case ts.SyntaxKind.ExpressionStatement:
      return (checker.getTypeAtLocation((last as ts.ExpressionStatement).expression).flags & ts.TypeFlags.Never) !== 0;
    default:
      return true; // a loop or switch that never ends: tsc reports it if it does
  }
}

