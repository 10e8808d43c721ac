/** vmm-src/abi.ts and linux/abi.h say the same: the dialect's compiler writes down the one, a C compiler checks it against the other. */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { reportAll } from "../../compiler/report.ts";

/** Names that do not follow from their twin's. */
const STRUCTS: Record<string, string> = { EventsHeader: "us_events", ConsoleHeader: "us_console" };
const PREFIXES: Record<string, string> = { Result: "US_E_", InstanceState: "US_INSTANCE_", CpuState: "US_CPU_", EventType: "US_EVENT_", StopReason: "US_STOP_", ResourceKind: "US_RESOURCE_" };
const CONSTANTS: Record<string, string> = { EXIT_COUNTERS: "US_EXIT_REASONS", COMMAND_LINE_SIZE: "sizeof(((struct us_boot_request *)0)->command_line)" };

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter, at: number) => `${at > 0 ? "_" : ""}${letter.toLowerCase()}`);

const { program, errors } = compile({ entries: ["vmm-src/abi.ts"] }, "exports");

function assertions(): string[] {
  const structs = program.structs.flatMap(({ name, size, fields }) => {
    const twin = `struct ${STRUCTS[name] ?? `us_${snake(name)}`}`;
    return [`sizeof(${twin}) == ${size}`, ...fields.map((field) => `offsetof(${twin}, ${snake(field.name)}) == ${field.offset}`)];
  });
  const members = program.enums.flatMap((one) => [...one.members].map(([name, value]) =>
    `${one.name === "Result" && name === "OK" ? "US_OK" : `${PREFIXES[one.name]}${name}`} == ${value}`));
  const constants = [...program.constants].map(([name, value]) =>
    `${CONSTANTS[name] ?? `US_${name.replace(/^HYPERCALL_/, "HC_")}`} == ${value}u`);
  return [...structs, ...members, ...constants];
}

test("the VMM's side of the ABI is the module's and the command's", () => {
  expect(reportAll(errors)).toBe("\n\n0 errors\n");
  const all = assertions();
  expect(all.length).toBeGreaterThan(100);
  const code = ['#include "linux/abi.h"', "#include <stddef.h>", ...all.map((one) => `_Static_assert(${one}, "abi");`)].join("\n");
  execFileSync("gcc", ["-std=c11", "-I.", "-fsyntax-only", "-x", "c", "-"], { input: code, stdio: ["pipe", "ignore", "pipe"], encoding: "utf8" });
});
