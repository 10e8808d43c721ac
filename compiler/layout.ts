/** Sizes and offsets. A struct lies as C would lay it out, with every padding byte written out by the author. */
import type { StructType, Type } from "./ir.ts";
import { refuse } from "./diagnostics.ts";

export function sizeOf(type: Type): number {
  switch (type.kind) {
    case "int": return type.bits / 8;
    case "bool": return 1;
    case "ref": return 8;
    case "array": return sizeOf(type.element) * type.length;
    case "struct": return type.size;
    default: throw new Error(`${type.kind} has no size`);
  }
}

export function alignOf(type: Type): number {
  switch (type.kind) {
    case "array": return alignOf(type.element);
    case "struct": return type.align;
    default: return sizeOf(type);
  }
}

/** Sets the offsets of a struct's fields, its size and its alignment. */
export function layOut(struct: StructType): void {
  if (struct.union) return layOutUnion(struct);
  let offset = 0;
  let align = 1;
  for (const field of struct.fields) {
    const fieldAlign = struct.packed ? 1 : alignOf(field.type);
    const gap = paddingTo(offset, fieldAlign);
    if (gap > 0) throw refuse.implicitPadding(field.loc, struct.name, gap, `before ${field.name}`);
    field.offset = offset;
    offset += sizeOf(field.type);
    align = Math.max(align, fieldAlign);
  }
  const tail = paddingTo(offset, align);
  if (tail > 0) throw refuse.implicitPadding(struct.loc, struct.name, tail, "at the end");
  struct.size = offset;
  struct.align = align;
}

function layOutUnion(struct: StructType): void {
  struct.align = Math.max(...struct.fields.map((field) => alignOf(field.type)));
  struct.size = alignUp(Math.max(...struct.fields.map((field) => sizeOf(field.type))), struct.align);
}

export function alignUp(offset: number, align: number): number {
  return offset + paddingTo(offset, align);
}

function paddingTo(offset: number, align: number): number {
  return (align - (offset % align)) % align;
}
