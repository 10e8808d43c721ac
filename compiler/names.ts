/** Names in the output: the source's own, made unique where modules or C itself would clash. */
import { type Func, type Local, type Program, type Static, type Stmt, typeName } from "./ir.ts";
import { nestedStatements } from "./walk.ts";

const RESERVED = new Set(`
  auto break case char const continue default do double else enum extern float for goto if inline int long register
  restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof
  bool true false NULL main memcpy memset memmove memcmp
  abstract arguments await class delete eval export extends finally function implements import in instanceof interface let
  new null package private protected public super this throw try var with yield undefined rt memory
  sites trapBlob trapOffsets
`.split(/\s+/));

/** What runtime.h and the headers that it includes have names for. */
const RUNTIME = new RegExp(`^(?:${[
  "check(?:Index|Range|Null|Unsigned|Signed)", "nonZero\\d+", "(?:add|sub|mul)[UI]\\d+", "(?:divide|remainder)I\\d+", "(?:load|store)\\d+",
  "atomic(?:Load|Store|Add|Exchange)\\d+", "(?:fill|copy)Bytes", "byteAt", "trapText",
  "RUNTIME|UNLIKELY|NON_ZERO|CHECKED|CHECKED_ARITHMETIC|SIGNED_DIVISION|RAW_ACCESS|ATOMICS|UNDERSTUDY_\\w+",
  "(?:u?int\\w*|size|ptrdiff|wchar|max_align)_t", "(?:U?INT\\w*|SIZE|PTRDIFF|SIG_ATOMIC|WCHAR|WINT)_(?:MAX|MIN|C|WIDTH)", "offsetof",
].join("|")})$`);

export function assignNames(program: Program): void {
  nameGlobals([...program.funcs, ...program.statics]);
  nameTypes(program);
  const globals = new Set([...program.funcs, ...program.statics].map((one) => one.cName));
  for (const func of program.funcs) nameLocals(func, globals);
}

function nameGlobals(all: (Func | Static)[]): void {
  const isFixed = (one: Func | Static): boolean => ("params" in one ? one.entry || one.body === null : one.asm);
  const fixed = new Set(all.filter(isFixed).map((one) => one.name));
  const count = new Map<string, number>();
  for (const one of all) count.set(one.name, (count.get(one.name) ?? 0) + 1);
  const taken = new Set(fixed);
  for (const one of all) {
    if (isFixed(one)) continue;
    const clashes = count.get(one.name)! > 1 || fixed.has(one.name);
    one.cName = unique(identifier(clashes ? `${one.module}_${one.name}` : one.name), taken);
  }
}

function nameTypes({ structs, values }: Program): void {
  const taken = new Set<string>();
  for (const type of [...structs, ...values]) type.cName = unique(identifier(typeName(type)), taken);
}

/** `Ring<u32, 8>` is Ring_u32_8, and its method `push` Ring_u32_8_push. */
function identifier(name: string): string {
  return printable(/\W/.test(name) ? name.replace(/\W+_?/g, "_").replace(/_$/, "") : name);
}

/** A local hides nothing, neither of the module nor of the blocks around it: what C means by a name is what the source means. */
function nameLocals(func: Func, globals: Set<string>): void {
  const names = new Set<string>();
  const rename = (local: Local, scope: Set<string>): void => {
    local.cName = printable(local.name);
    while (globals.has(local.cName) || scope.has(local.cName)) local.cName += "_";
    scope.add(local.cName);
    names.add(local.cName);
  };
  const walk = (body: Stmt[], around: Set<string>): void => {
    const scope = new Set(around);
    for (const stmt of body) {
      if (stmt.kind === "let") rename(stmt.local, scope);
      // The variables of a for loop's head are those of its body too.
      const nested = stmt.kind === "for" ? [[...stmt.init, ...stmt.body]] : nestedStatements(stmt);
      for (const inner of nested) walk(inner, scope);
    }
  };
  const params = new Set<string>();
  for (const param of func.params) rename(param, params);
  walk(func.body ?? [], params);
  for (const temp of func.temps) temp.cName = unique(temp.name, names, "_");
}

function unique(name: string, taken: Set<string>, separator = ""): string {
  let candidate = name;
  for (let i = 2; taken.has(candidate); i++) candidate = `${name}${separator}${i}`;
  taken.add(candidate);
  return candidate;
}

/** A name that neither C, JavaScript nor the output's own scaffolding uses. */
export function printable(name: string): string {
  if (name.startsWith("$") || name.startsWith("__")) return `x${name}`;
  return RESERVED.has(name) || RUNTIME.test(name) ? `${name}_` : name;
}
