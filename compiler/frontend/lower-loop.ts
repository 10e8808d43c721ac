/** Loops. A for loop that counts below a constant, or below a slice's length, proves its index. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { BOOL, type Expr, INTS, type Local, type Stmt, type Type, typeName } from "../ir.ts";
import type { Loc } from "../source.ts";
import { placeChildren } from "../walk.ts";
import type { Scope } from "./front.ts";
import { lowerExpressionStatement } from "./lower-assign.ts";
import { lowerCondition } from "./lower-expression.ts";
import { isAssignment } from "./lower-operator.ts";
import { lowerBase, valueOf } from "./lower-place.ts";
import { fixedSlice, lengthOf } from "./lower-slice.ts";
import { lowerBody } from "./lower-statement.ts";
import { declareLocal, lowerVariables } from "./lower-variable.ts";

export function lowerWhile(scope: Scope, node: ts.WhileStatement): Stmt[] {
  const test = scope.front.attempt(() => lowerCondition(scope, node.expression));
  const body = lowerBody(scope, node.statement);
  return test ? [{ kind: "while", loc: scope.front.loc(node), test, body }] : [];
}

export function lowerDo(scope: Scope, node: ts.DoStatement): Stmt[] {
  const body = lowerBody(scope, node.statement);
  return [{ kind: "doWhile", loc: scope.front.loc(node), test: lowerCondition(scope, node.expression), body }];
}

export function lowerFor(scope: Scope, node: ts.ForStatement): Stmt[] {
  const init = node.initializer ? lowerInitializer(scope, node.initializer) : [];
  const test = node.condition ? lowerCondition(scope, node.condition) : null;
  const proved = test && provedLimit(scope, test, node.statement);
  const body = proved ? within(proved, () => lowerBody(scope, node.statement)) : lowerBody(scope, node.statement);
  const step = node.incrementor ? lowerStep(scope, node.incrementor) : [];
  return [{ kind: "for", loc: scope.front.loc(node), init, test, step, body }];
}

/** What is known of a loop's variable holds in its body. */
function within<T>({ local, max, below }: Limit, work: () => T): T {
  local.max = max;
  local.below = below;
  try {
    return work();
  } finally {
    local.max = undefined;
    local.below = undefined;
  }
}

/** `for (const x of list)`: the elements of an array or slice by an index that nobody else sees. */
export function lowerForOf(scope: Scope, node: ts.ForOfStatement): Stmt[] {
  const { front } = scope;
  const loc = front.loc(node);
  const declaration = ts.isVariableDeclarationList(node.initializer) ? node.initializer.declarations[0] : undefined;
  const isConst = (node.initializer.flags & ts.NodeFlags.BlockScoped) === ts.NodeFlags.Const;
  if (node.awaitModifier || !declaration || !isConst || !ts.isIdentifier(declaration.name)) throw front.refuse(node.initializer, "forOf");
  const list = lowerBase(scope, node.expression);
  const array = list.type.kind === "ref" ? list.type.target : list.type;
  if (array.kind !== "array" && array.kind !== "slice") throw refuse.wrongType(front.loc(node.expression), typeName(list.type), "FixedArray or Slice");
  const init: Stmt[] = [];
  const once = isFixed(list) ? list : hidden(init, loc, "list", list);
  const index = hidden(init, loc, "i", { kind: "const", type: INTS.u32, value: 0n });
  const counter = index.place.local;
  const test: Expr = { kind: "compare", type: BOOL, op: "<", left: read(counter), right: lengthOf(once) };
  const step: Stmt = {
    kind: "assign", loc, temps: [], place: index.place,
    value: { kind: "binary", type: INTS.u32, op: "+", left: read(counter), right: { kind: "const", type: INTS.u32, value: 1n }, site: null },
  };
  const element = valueOf({ kind: "element", type: array.element, base: once, index: read(counter) });
  const name = declaration.name.text;
  const first = declareLocal(scope, declaration, name, element.type, element, true);
  const body = [first, ...lowerBody(scope, node.statement)];
  return [{ kind: "for", loc, init, test, step: [step], body }];
}

/** What stays the same through the loop: static storage, a variable that is assigned once. */
function isFixed(list: Expr): boolean {
  if (list.kind === "ref") return placeChildren(list.place).every(isFixed);
  if (list.kind === "member") return isFixed(list.value);
  return list.kind === "const" || fixedSlice(list) !== null;
}

type LocalLoad = Extract<Expr, { kind: "load" }> & { readonly place: { readonly kind: "local"; readonly type: Type; readonly local: Local } };

/** A variable that the source does not name. */
function hidden(init: Stmt[], loc: Loc, name: string, value: Expr): LocalLoad {
  const local: Local = { name, cName: name, type: value.type, param: false, align: 0, addressed: false, reads: 1, fixed: name !== "i" };
  init.push({ kind: "let", loc, local, init: value });
  return read(local);
}

function read(local: Local): LocalLoad {
  return { kind: "load", type: local.type, place: { kind: "local", type: local.type, local } };
}

function lowerInitializer(scope: Scope, node: ts.ForInitializer): Stmt[] {
  return ts.isVariableDeclarationList(node) ? lowerVariables(scope, node) : lowerStep(scope, node);
}

/** The step of a loop may be several assignments with commas. */
function lowerStep(scope: Scope, node: ts.Expression): Stmt[] {
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.CommaToken) {
    return [...lowerStep(scope, node.left), ...lowerStep(scope, node.right)];
  }
  return lowerExpressionStatement(scope, node);
}

interface Limit { readonly local: Local; readonly max?: bigint | undefined; readonly below?: Local | undefined }

/** `i < LIMIT` or `i < slice.length`, where the body leaves i alone: in the body i is below the limit, however the loop steps. */
function provedLimit(scope: Scope, test: Expr, body: ts.Statement): Limit | null {
  if (test.kind === "logical" && test.op === "&&") {
    return provedLimit(scope, test.left, body) ?? provedLimit(scope, test.right, body);
  }
  if (test.kind !== "compare" || (test.op !== "<" && test.op !== "<=")) return null;
  const { left, right } = test;
  if (left.kind !== "load" || left.place.kind !== "local") return null;
  const { local } = left.place;
  const below = test.op === "<" ? sliceOfLength(right) : null;
  const unsigned = local.type.kind === "int" && !local.type.signed;
  const isKnown = local.max !== undefined || local.below !== undefined;
  if (!unsigned || local.addressed || isKnown || (right.kind !== "const" && !below)) return null;
  for (const [declaration, binding] of scope.bindings) {
    if (binding.kind === "local" && binding.local === local && isAssigned(scope, declaration, body)) return null;
  }
  if (below) return { local, below };
  if (right.kind !== "const") return null;
  const max = test.op === "<" ? right.value - 1n : right.value;
  return max >= 0n ? { local, max } : null;
}

/** The slice that never changes and has this length. */
function sliceOfLength(value: Expr): Local | null {
  if (value.kind === "sliceLength") return fixedSlice(value.value);
  return value.kind === "load" && value.place.kind === "local" ? (value.place.local.lengthOf ?? null) : null;
}

/** Whether a variable is assigned somewhere in a statement. */
function isAssigned(scope: Scope, variable: ts.Node, node: ts.Node): boolean {
  if (!scope.assigned.has(variable)) return false;
  const visit = (child: ts.Node): boolean => {
    const target = assignedBy(child);
    return (target !== null && scope.front.declarationOf(target) === variable) || (ts.forEachChild(child, visit) ?? false);
  };
  return visit(node);
}

/** The variable that a node assigns, if it does. */
export function assignedBy(node: ts.Node): ts.Identifier | null {
  const isStep = (ts.isPrefixUnaryExpression(node) || ts.isPostfixUnaryExpression(node))
    && (node.operator === ts.SyntaxKind.PlusPlusToken || node.operator === ts.SyntaxKind.MinusMinusToken);
  if (!isStep && !(ts.isBinaryExpression(node) && isAssignment(node.operatorToken.kind))) return null;
  const target = unwrap(isStep ? node.operand : (node as ts.BinaryExpression).left);
  return ts.isIdentifier(target) ? target : null;
}

function unwrap(node: ts.Expression): ts.Expression {
  return ts.isParenthesizedExpression(node) ? unwrap(node.expression) : node;
}
