/** What assembly sees of the program: layouts and constants tagged @asm. */
import type { Program } from "../ir.ts";

export function emitAsmInclude(program: Program): string {
  const lines = ["; Made by the Understudy compiler."];
  for (const struct of program.structs) {
    if (!struct.asm) continue;
    for (const field of struct.fields) lines.push(`%define ${struct.name}.${field.name} ${field.offset}`);
    lines.push(`%define ${struct.name}_size ${struct.size}`);
  }
  for (const { name, value } of program.asmConsts) lines.push(`%define ${name} ${value > 9n ? `0x${value.toString(16)}` : value}`);
  return `${lines.join("\n")}\n`;
}
