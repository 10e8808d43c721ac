import { beforeEach, describe, expect, test } from "vitest";
import { Machine } from "./machine.ts";
import { loadModules, viewOf } from "./vmm.ts";

const loaded = loadModules(new Machine(), ["devices/virtual-apic-registers.ts"]);
const { call } = loaded;
const apic: bigint = call.virtualApic!(0);
const model = viewOf(loaded, "ApicModel", loaded.addressOf("apicModel"));
const NONE = 0xffff_ffff;
const ID = 3;
let now = 0n;

const read = (offset: number): number => Number(call.readPage!(apic, offset, 4, now));
const write = (offset: number, value: number): unknown => call.writePage!(apic, offset, 4, value, now);
const vectors = (bank: number): number[] => Array.from({ length: 256 }, (_, v) => v).filter((v) => (read(bank + (v >> 5) * 16) >>> (v & 31)) & 1);

const [TPR, PPR, EOI, SVR, ISR, IRR] = [0x80, 0xa0, 0xb0, 0xf0, 0x100, 0x200];

beforeEach(() => {
  model.version = 0x01060015;
  model.hasTscDeadline = 1;
  model.hasX2apic = 1;
  now = 1_000_000n;
  call.setTimerRate!(0x10000n);
  call.resetVirtualApic!(apic, 2, ID, true);
  write(SVR, 0x1ff);
});

describe("priorities (SDM Vol. 3A, 12.8.3)", () => {
  test("the highest request comes first, and what is in service holds back its own class and those below", () => {
    for (const vector of [0x31, 0x82, 0x8f, 0xec]) expect(call.raise!(apic, vector, false)).toBe(true);
    expect([vectors(IRR), call.deliverable!(apic)]).toEqual([[0x31, 0x82, 0x8f, 0xec], 0xec]);
    call.acknowledge!(apic, 0xec);
    expect([vectors(IRR), vectors(ISR), read(PPR), call.deliverable!(apic)]).toEqual([[0x31, 0x82, 0x8f], [0xec], 0xe0, NONE]);
    write(EOI, 0);
    expect(call.deliverable!(apic)).toBe(0x8f);
    write(TPR, 0x80);
    expect([call.deliverable!(apic), call.taskPriorityThreshold!(apic)]).toEqual([NONE, 8]);
  });
});
