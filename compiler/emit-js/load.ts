/** Runs dialect programs in Node: compiles, places the storage in a simulated memory, and gives tests the functions. */
import path from "node:path";
import { compile } from "../compile.ts";
import { trapText } from "../emit-c/traps.ts";
import { type Func, type Init, type Program, type Static, type StructType, type Type, fits, typeName } from "../ir.ts";
import { sizeOf } from "../layout.ts";
import { printable } from "../names.ts";
import { reportAll } from "../report.ts";
import { placeStatics } from "./frame.ts";
import { Memory, addressNumber } from "./memory.ts";
import { emitJs } from "./program.ts";
import { Runtime, type Slice } from "./runtime.ts";

export { Memory } from "./memory.ts";
export { DialectTrap } from "./runtime.ts";

/** Elements of an array in the simulated memory. */
export interface DialectSlice { address: bigint; length: number }
/** Integers up to 32 bits are numbers, u64, i64 and addresses bigints; a struct or array is its address; a record is an object of these. */
export type DialectValue = number | bigint | boolean | string | null | undefined | DialectSlice | { [field: string]: DialectValue };
export type DialectFunction = (...args: DialectValue[]) => any;

export interface LoadOptions {
  /** What `export declare function` stands for. */
  externals?: Record<string, (...args: any[]) => unknown>;
  memory?: Memory;
  /** Where static storage begins. */
  base?: bigint;
  /** Where storage on the stack begins. */
  stack?: bigint;
  /** Texts that stand in for files, by absolute path. */
  overlay?: Map<string, string>;
}

/** A struct's size and its fields' places and sizes, in bytes. */
export interface Layout { size: number; offsets: Record<string, number>; sizes: Record<string, number> }

export interface Loaded {
  /** Every exported function, by name. */
  call: Record<string, DialectFunction>;
  /** That of one file, where several export the same name. */
  callIn(file: string, name: string): DialectFunction;
  memory: Memory;
  addressOf(name: string): bigint;
  layout(struct: string): Layout;
  /** Module-level constants; an enumeration's members are "Enum.Member". */
  constants: Record<string, bigint>;
  enums: Record<string, Record<string, number>>;
  /** The generated JavaScript, to look at. */
  code: string;
}

export function loadDialect(entries: string | string[], options: LoadOptions = {}): Loaded {
  const files = (Array.isArray(entries) ? entries : [entries]).map((entry) => path.resolve(entry));
  const { program, errors } = compile({ entries: files, ...(options.overlay && { overlay: options.overlay }) }, "exports");
  if (errors.length > 0) throw new Error(`\n${reportAll(errors)}`);
  return instantiate(program, options);
}

/** A program of one module, given as text. */
export function loadSource(text: string, options: LoadOptions = {}): Loaded {
  const file = path.resolve("snippet.ts");
  return loadDialect(file, { ...options, overlay: new Map([[file, text]]) });
}

type Addresses = ReturnType<typeof placeStatics>;
/** A program in JavaScript, for static storage at one place. */
interface Emitted { base: number; addresses: Addresses; code: string; start: (runtime: Runtime) => Record<string, (...args: unknown[]) => unknown> }

/** What has been emitted last of each program: tests instantiate one many times. */
const emitted = new WeakMap<Program, Emitted>();

function emitAt(program: Program, base: number): Emitted {
  const last = emitted.get(program);
  if (last?.base === base) return last;
  const addresses = placeStatics(program.statics, base);
  const code = emitJs(program, addresses);
  const start = new Function("rt", `${code}\n//# sourceURL=dialect.js`) as Emitted["start"];
  const now = { base, addresses, code, start };
  emitted.set(program, now);
  return now;
}

export function instantiate(program: Program, options: LoadOptions = {}): Loaded {
  const memory = options.memory ?? new Memory();
  const { addresses, code, start } = emitAt(program, addressNumber(options.base ?? 0x10_0000_0000n));
  for (const [one, address] of addresses) initialise(memory, one, address);
  const externals = wrapExternals(program, options.externals ?? {});
  const runtime = new Runtime(memory, externals, program.sites.map(trapText), addressNumber(options.stack ?? 0x7f_0000_0000n));
  const compiled = start(runtime);
  const exported = program.funcs.filter((func) => func.body && (func.exported || func.entry));
  const layouts = missingNamed(Object.fromEntries(program.structs.map((struct) => [struct.name, layoutOf(struct)])), "struct");
  const call = Object.fromEntries(exported.map((func) => [func.name, wrapFunction(func, compiled[func.cName]!)]));
  return {
    call: missingNamed(call, "exported function"),
    callIn(file, name) {
      const source = path.relative(process.cwd(), file);
      const func = exported.find((one) => one.name === name && one.loc.source.path === source);
      if (!func) throw new Error(`${source} exports no function ${name}`);
      return wrapFunction(func, compiled[func.cName]!);
    },
    memory,
    addressOf: (name) => BigInt(addresses.get(find(program.statics, name, "static storage"))!),
    layout: (name) => layouts[name]!,
    constants: missingNamed(Object.fromEntries(program.constants), "constant"),
    enums: missingNamed(Object.fromEntries(program.enums.map((one) => [one.name, enumMembers(one.members)])), "enumeration"),
    code,
  };
}

/** Writes what a variable or table starts as. */
export function initialise(memory: Memory, one: Static, address: number): void {
  const put = (type: Type, init: Init, at: number): void => {
    if (typeof init === "bigint") return memory.write(BigInt(at), sizeOf(type) as 1 | 2 | 4 | 8, init);
    if (type.kind === "record" && "variant" in init) {
      if (type.tag) put(type.tag.type, init.variant.value, at);
      return init.variant.fields.forEach((field, i) => put(field.type, init.values[i]!, at + field.offset));
    }
    (init as readonly Init[]).forEach((part, i) => {
      if (type.kind === "array") put(type.element, part, at + i * sizeOf(type.element));
      if (type.kind === "struct") put(type.fields[i]!.type, part, at + type.fields[i]!.offset);
    });
  };
  if (one.init !== null) put(one.type, one.init, address);
}

function enumMembers(members: Map<string, bigint>): Record<string, number> {
  return Object.fromEntries([...members].map(([name, value]) => [name, Number(value)]));
}

function layoutOf({ size, fields }: StructType): Layout {
  return {
    size,
    offsets: Object.fromEntries(fields.map((field) => [field.name, field.offset])),
    sizes: Object.fromEntries(fields.map((field) => [field.name, sizeOf(field.type)])),
  };
}

function find<T extends { name: string }>(all: T[], name: string, what: string): T {
  const found = all.find((one) => one.name === name);
  if (!found) throw new Error(`the program has no ${what} ${name}; it has ${all.map((one) => one.name).join(", ") || "none"}`);
  return found;
}

/** Says what there is when a test asks for what there isn't. */
function missingNamed<T extends object>(all: T, what: string): T {
  return new Proxy(all, {
    get(target, name) {
      if (typeof name === "symbol" || name in target || name === "then" || name === "toJSON") return Reflect.get(target, name);
      throw new Error(`the program has no ${what} ${name}; it has ${Object.keys(target).join(", ") || "none"}`);
    },
  });
}

function wrapFunction(func: Func, body: (...args: unknown[]) => unknown): DialectFunction {
  return (...args) => {
    if (args.length !== func.params.length) throw new Error(`${func.name} takes ${func.params.length} arguments, not ${args.length}`);
    const inner = args.map((argument, i) => inward(func.params[i]!.type, argument, `${func.name}: ${func.params[i]!.name}`));
    return outward(func.result, body(...inner));
  };
}

function wrapExternals(program: Program, given: Record<string, (...args: any[]) => unknown>): Record<string, (...args: never[]) => unknown> {
  const wrapped: Record<string, (...args: never[]) => unknown> = {};
  for (const func of program.funcs) {
    if (func.body) continue;
    const implementation = given[func.name];
    wrapped[func.cName] = (...args: unknown[]) => {
      if (!implementation) {
        throw new Error(`the program called ${func.name}(${args.map(String).join(", ")}), which this test does not supply: loadDialect(…, { externals: { ${func.name}: … } })`);
      }
      const outer = args.map((argument, i) => outward(func.params[i]!.type, argument));
      return inward(func.result, implementation(...outer), `what ${func.name} returned`);
    };
  }
  return wrapped;
}

/** A test's value as compiled code has it. */
function inward(type: Type, value: unknown, what: string): unknown {
  const wrong = (): Error => new Error(`${what} has to be ${typeName(type)}, not ${typeof value === "bigint" ? `${value}n` : String(value)}`);
  switch (type.kind) {
    case "void":
    case "never":
      return undefined;
    case "bool":
      if (typeof value !== "boolean") throw wrong();
      return value;
    case "string":
      if (typeof value !== "string") throw wrong();
      return value;
    case "ref":
      if (value === null && type.nullable) return 0;
      if (typeof value !== "bigint") throw wrong();
      return addressNumber(value);
    case "int": {
      const right = type.bits === 64 ? typeof value === "bigint" : Number.isInteger(value);
      if (!right || !fits(BigInt(value as number), type)) throw wrong();
      return value;
    }
    case "record": {
      const fields = value as Record<string, unknown>;
      if (typeof value !== "object" || value === null) throw wrong();
      const tag = type.tag && inward(type.tag.type, fields[type.tag.name], `${what}.${type.tag.name}`);
      const variant = type.variants.find((one) => !type.tag || one.value === BigInt(tag as number));
      if (!variant) throw wrong();
      const all = type.tag ? [type.tag, ...variant.fields] : variant.fields;
      return Object.fromEntries(all.map((field) => [printable(field.name), inward(field.type, fields[field.name], `${what}.${field.name}`)]));
    }
    case "slice": {
      const { address, length } = (value ?? {}) as Partial<DialectSlice>;
      if (typeof address !== "bigint" || !Number.isInteger(length)) throw wrong();
      return { data: addressNumber(address), length };
    }
    default: throw wrong();
  }
}

function outward(type: Type, value: unknown): unknown {
  if (type.kind === "slice") return { address: BigInt((value as Slice).data), length: (value as Slice).length };
  if (type.kind === "record") {
    const fields = value as Record<string, unknown>;
    const variant = type.variants.find((one) => !type.tag || one.value === BigInt(fields[printable(type.tag.name)] as number));
    const all = type.tag ? [type.tag, ...(variant?.fields ?? [])] : (variant?.fields ?? []);
    return Object.fromEntries(all.map((field) => [field.name, outward(field.type, fields[printable(field.name)])]));
  }
  if (type.kind !== "ref") return value;
  return value === 0 ? null : BigInt(value as number);
}
