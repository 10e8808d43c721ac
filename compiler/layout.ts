/** Sizes and offsets. A struct lies as C would lay it out, with every padding byte written out by the author. */
import type { RecordType, StructType, Type } from "./ir.ts";
import { refuse } from "./diagnostics.ts";

export function sizeOf(type: Type): number {
  switch (type.kind) {
    case "int": return type.bits / 8;
    case "bool": return 1;
    case "ref":
    case "string":
      return 8;
    case "array": return sizeOf(type.element) * type.length;
    case "struct":
    case "record":
      return type.size;
    case "slice": return 16;
    default: throw new Error(`${type.kind} has no size`);
  }
}

export function alignOf(type: Type): number {
  switch (type.kind) {
    case "array": return alignOf(type.element);
    case "struct":
    case "record":
      return type.align;
    case "slice": return 8;
    default: return sizeOf(type);
  }
}

/**
 * Sets the offsets of a struct's fields, its size and its alignment. What a generic's padding is depends on its
 * arguments, so that nobody could write it out.
 */
export function layOut(struct: StructType): void {
  if (struct.union) return layOutUnion(struct);
  let offset = 0;
  let align = struct.aligned;
  for (const field of struct.fields) {
    const fieldAlign = struct.packed ? 1 : alignOf(field.type);
    const gap = paddingTo(offset, fieldAlign);
    if (gap > 0 && !struct.instance) throw refuse.implicitPadding(field.loc, struct.name, gap, `before ${field.name}`);
    field.offset = offset + gap;
    offset = field.offset + sizeOf(field.type);
    align = Math.max(align, fieldAlign);
  }
  const tail = paddingTo(offset, align);
  if (tail > 0 && !struct.instance) throw refuse.implicitPadding(struct.loc, struct.name, tail, "at the end");
  struct.size = offset + tail;
  struct.align = align;
}

function layOutUnion(struct: StructType): void {
  struct.align = Math.max(...struct.fields.map((field) => alignOf(field.type)));
  struct.size = alignUp(Math.max(...struct.fields.map((field) => sizeOf(field.type))), struct.align);
}

/** A record lies as C lays out the tag and a union of its variants. Its padding is nobody's business. */
export function layOutRecord(record: RecordType): void {
  const { tag, variants } = record;
  if (tag) tag.offset = 0;
  const tagEnd = tag ? sizeOf(tag.type) : 0;
  const alignOfVariant = (fields: RecordType["variants"][number]["fields"]): number => Math.max(1, ...fields.map((field) => alignOf(field.type)));
  const payloadAlign = Math.max(1, ...variants.map((variant) => alignOfVariant(variant.fields)));
  const start = variants.length > 1 ? alignUp(tagEnd, payloadAlign) : tagEnd;
  let end = tagEnd;
  for (const variant of variants) {
    let offset = start;
    for (const field of variant.fields) {
      field.offset = alignUp(offset, alignOf(field.type));
      offset = field.offset + sizeOf(field.type);
    }
    if (variant.fields.length > 0) end = Math.max(end, alignUp(offset, alignOfVariant(variant.fields)));
  }
  record.align = Math.max(payloadAlign, tag ? alignOf(tag.type) : 1);
  record.size = alignUp(end, record.align);
}

export function alignUp(offset: number, align: number): number {
  return offset + paddingTo(offset, align);
}

function paddingTo(offset: number, align: number): number {
  return (align - (offset % align)) % align;
}
