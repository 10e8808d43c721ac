/** Declarations at module level: constants, static storage, functions. Each is made when it is first needed. */
import { ts } from "./typescript.cjs";
import { Refusal, refuse } from "../diagnostics.ts";
import { type Expr, type Func, INTS, type Init, type Local, type StructType, type Type, isAggregate, sameInt, sameStorage, typeName } from "../ir.ts";
import { alignOf } from "../layout.ts";
import { endOf } from "../source.ts";
import { coerce, lowerAs } from "./coerce.ts";
import { constantOf } from "./constants.ts";
import { type Front, type Global, constantScope, docLine, hasModifier, hasTag } from "./front.ts";
import { ROOT, type TypeArgument, instanceName, instanceOf } from "./instance.ts";
import { lowerExpression } from "./lower-expression.ts";
import { queueBody } from "./lower-statement.ts";
import { complete, storageType, typeOfNode, valueType } from "./types.ts";

/** What a declaration at module level stands for; `use` is where it was named. */
export function globalOf(front: Front, declaration: ts.Declaration, use: ts.Node): Global {
  const known = front.globals.get(declaration);
  if (known) return known;
  const failure = front.failed.get(declaration);
  if (failure) throw failure;
  const name = ts.getNameOfDeclaration(declaration)?.getText() ?? "";
  if (front.pending.has(declaration)) throw refuse.constantCycle(front.loc(declaration), name);
  front.pending.add(declaration);
  try {
    const global = front.within(ROOT, () => declare(front, declaration, name, use));
    front.globals.set(declaration, global);
    return global;
  } catch (error) {
    if (error instanceof Refusal) front.failed.set(declaration, error);
    throw error;
  } finally {
    front.pending.delete(declaration);
  }
}

function declare(front: Front, declaration: ts.Declaration, name: string, use: ts.Node): Global {
  if (front.program.isCore(declaration)) throw refuse.unknownName(front.loc(use), name);
  if (ts.isFunctionDeclaration(declaration)) return { kind: "func", func: declareFunction(front, declaration, []) };
  if (ts.isVariableDeclaration(declaration)) return declareVariable(front, declaration, name);
  if (ts.isClassDeclaration(declaration)) throw front.refuse(use, "classMember");
  throw refuse.unknownName(front.loc(use), name);
}

/** A generic function for some type arguments; `use` is the call that asks for it. */
export function functionOf(front: Front, node: ts.FunctionDeclaration, args: readonly TypeArgument[], use: ts.Node): Func {
  return instanceOf(front, front.instances.funcs, node, args, use, (instance, keep) => {
    const func = declareFunction(front, node, args);
    keep(func);
    queueBody(front, func, node, instance);
  });
}

function declareFunction(front: Front, node: ts.FunctionDeclaration, args: readonly TypeArgument[]): Func {
  const name = node.name?.text;
  if (!name) throw refuse.defaultExport(front.loc(node));
  const loc = front.loc(node.name);
  if (node.asteriskToken || hasModifier(node, ts.SyntaxKind.AsyncKeyword)) throw front.refuse(node.name, "asynchronous");
  if (hasModifier(node, ts.SyntaxKind.DefaultKeyword)) throw refuse.defaultExport(loc);
  if ((front.symbolOf(node.name)?.declarations?.length ?? 1) > 1) throw refuse.overload(loc, name);
  if (!node.type) throw refuse.needsAnnotation(loc, `the result of ${name}`, `function ${name}(…): void`);
  if (!node.body && !hasModifier(node, ts.SyntaxKind.DeclareKeyword)) throw refuse.externBody(loc);
  const isGeneric = args.length > 0;
  const entry = hasTag(node, "entry");
  return {
    name: instanceName(name, args), cName: name, module: front.program.moduleName(node.getSourceFile()), loc, end: endOf(front.loc(node)), doc: docLine(node),
    exported: !isGeneric && hasModifier(node, ts.SyntaxKind.ExportKeyword),
    entry,
    params: node.parameters.map((parameter) => declareParameter(front, parameter)),
    result: valueType(front, node.type),
    temps: [],
    body: node.body ? [] : null,
  };
}

/** Declares the methods of a struct. Those of an earlier compilation stay, and get a body again if `isNew`. */
export function declareMethods(front: Front, struct: StructType, isNew = true): void {
  const { declaration, instance } = front.instances.classes.get(struct)!;
  for (const member of declaration.members) {
    if (!ts.isMethodDeclaration(member)) continue;
    front.attempt(() => {
      const name = member.name.getText();
      const known = struct.methods.get(name);
      if (!known) methodOf(front, struct, name);
      else if (isNew) queueBody(front, known, member, instance);
    });
  }
}

/** The method of a struct, or undefined if it has none of the name. */
export function methodOf(front: Front, struct: StructType, name: string): Func | undefined {
  const known = struct.methods.get(name);
  if (known) return known;
  const { declaration, instance } = front.instances.classes.get(struct)!;
  const node = declaration.members.find((member): member is ts.MethodDeclaration => ts.isMethodDeclaration(member) && member.name.getText() === name);
  if (!node) return undefined;
  const func = front.within(instance, () => declareMethod(front, struct, node));
  struct.methods.set(name, func);
  queueBody(front, func, node, instance);
  return func;
}

/** A function of the struct's name and its own, with the struct as first parameter. */
function declareMethod(front: Front, struct: StructType, node: ts.MethodDeclaration): Func {
  const loc = front.loc(node.name);
  const name = node.name.getText();
  if (node.typeParameters) throw front.refuse(node.typeParameters[0]!, "generic");
  const modifiers = node.modifiers?.length ?? 0;
  if (!ts.isIdentifier(node.name) || modifiers > 0 || node.asteriskToken || node.questionToken || !node.body) throw refuse.methodForm(loc);
  if (!node.type) throw refuse.needsAnnotation(loc, `the result of ${name}`, `${name}(…): void`);
  const self: Local = {
    name: "this", cName: "this", type: { kind: "ref", target: struct, nullable: false }, param: true, align: 0, addressed: false, reads: 0,
  };
  return {
    name: `${struct.name}_${name}`, cName: name, module: front.program.moduleName(node.getSourceFile()), loc, end: endOf(front.loc(node)), doc: docLine(node),
    exported: false, entry: false,
    params: [self, ...node.parameters.map((parameter) => declareParameter(front, parameter))],
    result: valueType(front, node.type),
    temps: [],
    body: [],
  };
}

function declareParameter(front: Front, node: ts.ParameterDeclaration): Local {
  if (!ts.isIdentifier(node.name)) throw front.refuse(node.name, "destructuring");
  if (node.initializer || node.questionToken || node.dotDotDotToken) throw refuse.parameterForm(front.loc(node));
  const name = node.name.text;
  if (name === "this") throw front.refuse(node, "thisValue");
  if (!node.type) throw refuse.needsAnnotation(front.loc(node), `parameter ${name}`, `${name}: u32`);
  const type = valueType(front, node.type);
  if (type.kind === "void" || type.kind === "never") throw refuse.notStorage(front.loc(node.type), typeName(type));
  return { name, cName: name, type, param: true, align: 0, addressed: false, reads: 0 };
}

function declareVariable(front: Front, node: ts.VariableDeclaration, name: string): Global {
  const isConst = (node.parent.flags & ts.NodeFlags.BlockScoped) === ts.NodeFlags.Const;
  if (hasModifier(node.parent.parent as ts.VariableStatement, ts.SyntaxKind.DeclareKeyword)) throw front.refuse(node, "ambient");
  if (!node.initializer) throw refuse.staticInit(front.loc(node), name);
  if (!node.type) {
    if (!isConst) throw refuse.staticNeedsType(front.loc(node), name);
    return untypedConstant(front, node, name);
  }
  const declared = typeOfNode(front, node.type);
  if (declared.kind === "string" && isConst) return untypedConstant(front, node, name);
  const type = complete(front, storageType(front, node.type));
  if (isAggregate(type)) return aggregate(front, node, name, type, isConst);
  if (type.kind === "record" || type.kind === "slice") {
    if (zeroedAlign(front, node.initializer) !== null) return makeStatic(front, node, name, type, 0, null, false);
    if (type.kind === "slice") throw refuse.staticInit(front.loc(node.initializer), name);
    return makeStatic(front, node, name, type, 0, initOf(front, node.initializer, type), isConst);
  }
  const value = initialValue(front, node, type);
  if (isConst && value.kind === "const") return { kind: "constant", value: { ...value, name } };
  if (isConst) throw refuse.staticInit(front.loc(node.initializer), name);
  return makeStatic(front, node, name, type, 0, value.kind === "const" ? value.value : null, false);
}

function initialValue(front: Front, node: ts.VariableDeclaration, type: Type): Expr {
  const scope = constantScope(front);
  const value = coerce(scope, lowerExpression(scope, node.initializer!, type), type, node.initializer!);
  if (value.kind !== "const" && value.kind !== "null") throw refuse.notConstant(front.loc(node.initializer!));
  return value;
}

function untypedConstant(front: Front, node: ts.VariableDeclaration, name: string): Global {
  const scope = constantScope(front);
  const value = lowerExpression(scope, node.initializer!);
  if (value.kind === "string") return { kind: "constant", value };
  if (value.kind !== "const") throw refuse.notConstant(front.loc(node.initializer!));
  return { kind: "constant", value: { ...value, name } };
}

/** Static storage: zeroes, or a table of constants. */
function aggregate(front: Front, node: ts.VariableDeclaration, name: string, type: Type, isConst: boolean): Global {
  const init = node.initializer!;
  if (!isConst) throw refuse.staticInit(front.loc(node), name);
  const align = zeroedAlign(front, init);
  if (align !== null) return makeStatic(front, node, name, type, align, null, false);
  const fill = filledBy(front, init);
  if (fill) return makeStatic(front, node, name, type, 0, null, true, fillFunction(front, fill, type));
  if (!ts.isArrayLiteralExpression(init)) throw refuse.staticInit(front.loc(init), name);
  return makeStatic(front, node, name, type, 0, initOf(front, init, type), true);
}

/** The function that `filled(…)` names; null if this is not filled(). */
function filledBy(front: Front, node: ts.Expression): ts.Expression | null {
  if (!ts.isCallExpression(node) || node.expression.getText() !== "filled") return null;
  const [fill] = node.arguments;
  const declaration = fill && front.declarationOf(fill);
  if (!fill || !declaration || !ts.isFunctionDeclaration(declaration) || declaration.typeParameters) throw refuse.fillFunction(front.loc(fill ?? node));
  return fill;
}

function fillFunction(front: Front, node: ts.Expression, type: Type): Func {
  const global = globalOf(front, front.declarationOf(node)!, node);
  const func = global.kind === "func" ? global.func : null;
  const [param] = func?.params ?? [];
  const right = func?.body && func.params.length === 1 && param!.type.kind === "ref" && sameStorage(param!.type.target, type) && func.result.kind === "void";
  if (!right) throw refuse.fillFunction(front.loc(node));
  return func;
}

/** The alignment that zeroed(…) asks for, 0 for the type's own; null if this is not zeroed(). */
export function zeroedAlign(front: Front, node: ts.Expression): number | null {
  if (!ts.isCallExpression(node) || node.expression.getText() !== "zeroed") return null;
  const argument = node.arguments[0];
  if (!argument) return 0;
  const align = Number(constantOf(front, argument).value);
  if (align < 1 || (align & (align - 1)) !== 0) throw refuse.alignment(front.loc(argument));
  return align;
}

/** What storage of a type starts as, written out in constants. */
function initOf(front: Front, node: ts.Expression, type: Type): Init {
  if (type.kind === "array") {
    if (!ts.isArrayLiteralExpression(node)) throw refuse.notConstant(front.loc(node));
    if (node.elements.length !== type.length) throw refuse.tableLength(front.loc(node), node.elements.length, type.length);
    return node.elements.map((element) => initOf(front, element, type.element));
  }
  const scope = constantScope(front);
  return constantInit(front, lowerAs(scope, node, type), node);
}

function constantInit(front: Front, value: Expr, node: ts.Node): Init {
  if (value.kind === "const") return value.value;
  if (value.kind === "null") return 0n;
  if (value.kind !== "record") throw refuse.notConstant(front.loc(node));
  return { variant: value.variant, values: value.values.map((one) => constantInit(front, one, node)) };
}

function makeStatic(
  front: Front, node: ts.VariableDeclaration, name: string, type: Type, align: number, init: Init | null, constant: boolean,
  filledBy?: Func,
): Global {
  const statement = node.parent.parent;
  return {
    kind: "static",
    static: {
      name, cName: name, type, loc: front.loc(node.name), module: front.program.moduleName(node.getSourceFile()),
      exported: hasModifier(statement, ts.SyntaxKind.ExportKeyword), asm: hasTag(node, "asm"),
      align: Math.max(align, alignOf(type)), init, constant, filledBy,
    },
  };
}

/** The program's onTrap has the one form that the runtime calls. */
export function checkTrapHandler(func: Func): void {
  const [param] = func.params;
  const right = func.params.length === 1 && param!.type.kind === "int" && sameInt(param!.type, INTS.u32) && func.result.kind === "never";
  if (!right || !func.entry) throw refuse.trapHandler(func.loc);
}
