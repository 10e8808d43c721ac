/** What is known about how large a value can be: it proves array indices and conversions. */
import { type Expr, maxOf, minOf } from "../ir.ts";

/** The largest value that an integer expression can have. */
export function largest(value: Expr): bigint {
  if (value.type.kind === "bool") return 1n;
  if (value.type.kind !== "int") throw new Error(`no range: ${value.type.kind}`);
  const limit = maxOf(value.type);
  if (value.type.signed) return value.kind === "const" ? value.value : limit;
  return min(limit, bound(value) ?? limit);
}

export function smallest(value: Expr): bigint {
  if (value.kind === "const") return value.value;
  return value.type.kind === "int" ? minOf(value.type) : 0n;
}

/** For unsigned expressions; null where nothing is known. */
function bound(value: Expr): bigint | null {
  switch (value.kind) {
    case "const": return value.value;
    case "load": return value.place.kind === "local" ? (value.place.local.max ?? null) : null;
    case "checkIndex": return typeof value.length === "number" ? BigInt(value.length - 1) : largest(value.value);
    case "shift": return value.op === ">>" && value.right.kind === "const" ? largest(value.left) >> value.right.value : null;
    case "conditional": return max(largest(value.yes), largest(value.no));
    case "convert": return isUnsigned(value.value) && largest(value.value) <= maxOf(value.type) ? largest(value.value) : null;
    case "binary": {
      const left = largest(value.left);
      const right = largest(value.right);
      switch (value.op) {
        case "&": return min(left, right);
        case "%": return value.right.kind === "const" ? min(left, value.right.value - 1n) : null;
        case "/": return value.right.kind === "const" ? left / value.right.value : left;
        // A sum or product that cannot wrap; if it could, the type's own limit is smaller.
        case "+": return left + right <= maxOf(value.type) ? left + right : null;
        case "*": return left * right <= maxOf(value.type) ? left * right : null;
        default: return null;
      }
    }
    default: return null;
  }
}

function isUnsigned(value: Expr): boolean {
  return value.type.kind === "bool" || (value.type.kind === "int" && !value.type.signed);
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
