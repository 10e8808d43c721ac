/**
 * Constant tables that a function fills: the function runs here, by the JavaScript back end, and what it wrote becomes
 * the table's contents. It may depend on nothing that is not known now.
 */
import vm from "node:vm";
import type { CallGraph } from "./check-recursion.ts";
import { type Diagnostic, Refusal, refuse } from "./diagnostics.ts";
import { placeStatics } from "./emit-js/frame.ts";
import { initialise } from "./emit-js/load.ts";
import { Memory } from "./emit-js/memory.ts";
import { emitJs } from "./emit-js/program.ts";
import { DialectTrap, Runtime } from "./emit-js/runtime.ts";
import { trapText } from "./emit-c/traps.ts";
import { type Expr, type Func, type Init, type Place, type Program, type Static, type Type, wrap } from "./ir.ts";
import { sizeOf } from "./layout.ts";
import { assignNames } from "./names.ts";
import { reachableFrom } from "./reachability.ts";
import { expressionsOf, placeChildren, childrenOf, visitStatements } from "./walk.ts";

const STATICS = 0x10_0000;
const STACK = 0x7f_0000_0000;
/** Longer than any sensible table takes; a loop without end stops here. */
const TIMEOUT_MS = 10_000;

/** What tables were computed from, so that nothing is computed twice while one watches. */
const computed = new WeakMap<Static, string>();

export function fillTables(program: Program, graph: CallGraph): Diagnostic[] {
  const errors: Diagnostic[] = [];
  const done = new Set<Static>();
  const path: Static[] = [];
  const fill = (table: Static): void => {
    if (!table.filledBy || done.has(table)) return;
    if (path.includes(table)) throw refuse.fillImpure(table.loc, table.name, `no ${table.name} yet`);
    path.push(table);
    const part = reachableFrom(program, graph, [table.filledBy]);
    for (const func of part.funcs) checkPure(table, func);
    part.statics.forEach(fill);
    path.pop();
    run(table, table.filledBy, part);
    done.add(table);
  };
  for (const table of program.statics) {
    try {
      fill(table);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      path.length = 0;
      errors.push(error.diagnostic);
    }
  }
  return errors;
}

/** Nothing of the machine, nothing that changes, no addresses: they are others at run time. */
function checkPure(table: Static, func: Func): void {
  if (!func.body) throw refuse.fillImpure(func.loc, table.name, `no ${func.name}`);
  const wrong = (value: Expr): string | null => {
    if (value.kind === "builtin" && value.name !== "byteAt") return `no ${value.name}`;
    if (value.kind === "at" || value.kind === "atomic") return "no other memory";
    if (value.kind === "placeAddress" || value.kind === "refAddress") return "no address";
    const place = "place" in value ? value.place : null;
    if (place) return wrongPlace(place);
    return firstOf(childrenOf(value), wrong);
  };
  const wrongPlace = (place: Place): string | null => {
    if (place.kind === "static" && !place.static.constant) return `no variable ${place.static.name}`;
    return firstOf(placeChildren(place), wrong);
  };
  visitStatements(func.body, (stmt) => {
    const reason = (stmt.kind === "assign" ? wrongPlace(stmt.place) : null) ?? firstOf(expressionsOf(stmt), wrong);
    if (reason) throw refuse.fillImpure(stmt.loc, table.name, reason);
  });
}

function firstOf<T, R>(all: T[], find: (one: T) => R | null): R | null {
  for (const one of all) {
    const found = find(one);
    if (found !== null) return found;
  }
  return null;
}

function run(table: Static, func: Func, part: Program): void {
  const statics = part.statics.includes(table) ? part.statics : [...part.statics, table];
  const whole = { ...part, statics };
  assignNames(whole);
  const addresses = placeStatics(statics, STATICS);
  const code = emitJs(whole, addresses);
  if (table.init !== null && computed.get(table) === code) return;
  const memory = new Memory();
  for (const [one, address] of addresses) if (one !== table) initialise(memory, one, address);
  const rt = new Runtime(memory, {}, part.sites.map(trapText), STACK);
  const at = addresses.get(table)!;
  try {
    vm.runInNewContext(`(function (rt) { ${code} })(rt).${func.cName}(${at})`, { rt }, { timeout: TIMEOUT_MS });
  } catch (error) {
    if (error instanceof DialectTrap) throw refuse.fillFails(table.loc, table.name, error.text);
    if ((error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT") throw refuse.fillFails(table.loc, table.name, `${func.name} does not end`);
    throw error;
  }
  table.init = read(table, memory, table.type, at);
  computed.set(table, code);
}

/** What memory holds, as the table's contents. */
function read(table: Static, memory: Memory, type: Type, at: number): Init {
  switch (type.kind) {
    case "int": return wrap(memory.read(BigInt(at), (type.bits / 8) as 1 | 2 | 4 | 8), type);
    case "bool": return memory.read(BigInt(at), 1);
    case "array": return Array.from({ length: type.length }, (_, i) => read(table, memory, type.element, at + i * sizeOf(type.element)));
    case "struct": return type.fields.map((field) => read(table, memory, field.type, at + field.offset));
    case "record": {
      const tag = type.tag ? read(table, memory, type.tag.type, at) : 0n;
      const variant = type.variants.find((one) => one.value === tag)!;
      return { variant, values: variant.fields.map((field) => read(table, memory, field.type, at + field.offset)) };
    }
    default:
      if (memory.read(BigInt(at), 8) !== 0n) throw refuse.fillImpure(table.loc, table.name, "no address");
      return 0n;
  }
}
