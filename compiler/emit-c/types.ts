/** Types in C. A reference to an array is a pointer to its first element. */
import type { Func, IntType, Local, Type } from "../ir.ts";

/** `uint32_t name`, `struct S *name`, `uint8_t name[8][4]`: any declarator. */
export function declare(type: Type, declarator: string): string {
  switch (type.kind) {
    case "int": return spaced(intName(type), declarator);
    case "bool": return spaced("bool", declarator);
    case "string": return spaced("const char", `*${declarator}`);
    case "void":
    case "never":
      return spaced("void", declarator);
    case "struct":
    case "record":
    case "slice":
      return spaced(`struct ${type.cName}`, declarator);
    case "array": {
      const inner = declarator.startsWith("*") ? `(${declarator})` : declarator;
      return declare(stored(type.element), `${inner}[${type.length}]`);
    }
    case "ref":
      if (type.target.kind === "struct") return spaced(`struct ${type.target.cName}`, `*${declarator}`);
      return declare(stored(type.target.element), `*${declarator}`);
    default: throw new Error(type.kind);
  }
}

/** As memory has it: a boolean is one byte that may hold anything. */
export function stored(type: Type): Type {
  return type.kind === "bool" ? { kind: "int", bits: 8, signed: false } : type;
}

export function castTo(type: Type): string {
  return `(${declare(type, "")})`;
}

export function intName(type: IntType): string {
  return `${type.signed ? "" : "u"}int${type.bits}_t`;
}

export function signature(func: Func): string {
  const params = func.params.map((param: Local) => declare(param.type, param.cName)).join(", ");
  const noreturn = func.result.kind === "never" ? "_Noreturn " : "";
  const linkage = func.entry || func.body === null ? "" : "static ";
  return `${linkage}${noreturn}${declare(func.result, `${func.cName}(${params || "void"})`)}`;
}

function spaced(name: string, declarator: string): string {
  return declarator ? `${name} ${declarator}` : name;
}
