import { describe, expect, test } from "vitest";
import type { DialectValue } from "../../compiler/emit-js/load.ts";
import { Machine } from "./machine.ts";
import { loadModules } from "./vmm.ts";

const { call } = loadModules(new Machine(), ["devices/apic-destination.ts"]);
const FLAT = 0xffff_ffff;
const CLUSTER = 0x0fff_ffff;
const LOGICAL = 0x800;
const [SELF, ALL, OTHERS] = [0x40000, 0x80000, 0xc0000];

const xapic = (id: number, logical = 0, model = FLAT): DialectValue => ({ id, x2apic: false, logical: (logical << 24) >>> 0, model });
const x2apic = (id: number): DialectValue => ({ id, x2apic: true, logical: 0, model: 0 });
const named = (apic: DialectValue, low: number, destination: number): boolean => call.isNamed!(apic, low, destination);

describe("a physical destination (SDM Vol. 3A, 12.6.2.1)", () => {
  test.each([
    ["its id", xapic(3), 3, true], ["another id", xapic(3), 2, false], ["everybody", xapic(3), 0xff, true], ["id 0", xapic(0), 0, true],
    ["a large id, in x2APIC mode", x2apic(0x1234), 0x1234, true], ["another one", x2apic(0x1234), 0x34, false], ["everybody, in x2APIC mode", x2apic(0x1234), 0xffff_ffff, true],
    ["which is not 255 there", x2apic(0x1234), 0xff, false], ["an APIC that is still in xAPIC mode, by everybody", xapic(3), 0xffff_ffff, true],
  ] as [string, DialectValue, number, boolean][])("%s", (_what, apic, destination, expected) => expect(named(apic, 0, destination)).toBe(expected));
});

describe("a logical destination (SDM Vol. 3A, 12.6.2.2, 12.12.10.2)", () => {
  test.each([
    ["flat: its bit", xapic(0, 0x04), 0x04, true], ["flat: among others", xapic(0, 0x04), 0xff, true], ["flat: other bits", xapic(0, 0x04), 0xfb, false], ["flat: no logical id", xapic(0), 0xff, false],
    ["cluster: its own, its member", xapic(0, 0x24, CLUSTER), 0x24, true], ["cluster: its own, among members", xapic(0, 0x24, CLUSTER), 0x2f, true], ["cluster: its own, other members", xapic(0, 0x24, CLUSTER), 0x2b, false],
    ["cluster: another one", xapic(0, 0x24, CLUSTER), 0x34, false], ["cluster: all of them, its member", xapic(0, 0x24, CLUSTER), 0xf4, true], ["cluster: everybody", xapic(0, 0x24, CLUSTER), 0xff, true],
    ["cluster: no member's bit", xapic(0, 0x24, CLUSTER), 0x20, false],
    ["x2APIC: its cluster and bit", x2apic(0x123), 0x0012_0008, true], ["x2APIC: among members", x2apic(0x123), 0x0012_ffff, true], ["x2APIC: other members", x2apic(0x123), 0x0012_fff7, false],
    ["x2APIC: another cluster", x2apic(0x123), 0x0013_0008, false], ["x2APIC: everybody", x2apic(0x123), 0xffff_ffff, true],
  ] as [string, DialectValue, number, boolean][])("%s", (_what, apic, destination, expected) => expect(named(apic, LOGICAL, destination)).toBe(expected));
});

describe("a shorthand (SDM Vol. 3A, 12.6.2.3)", () => {
  test.each([["self", SELF, [true, false]], ["all", ALL, [true, true]], ["all but self", OTHERS, [false, true]]])("%s goes before any destination", (_what, shorthand, expected) => {
    for (const destination of [0, 3, 0xff]) expect([true, false].map((isSender) => call.isCommanded!(xapic(3), isSender, shorthand | LOGICAL, destination))).toEqual(expected);
  });
});
