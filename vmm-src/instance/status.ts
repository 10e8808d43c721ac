/** What `understudy status` shows. */
import { ABI_VERSION, EXIT_COUNTERS, InstanceStatus, MAX_CPUS, MAX_INSTANCES, Status } from '../abi.ts';
import { Vcpu, cpus, vcpuOf } from '../cpu/cpu.ts';
import { UNCONDITIONAL_EXITS } from '#processor/direct.ts';
import { readTsc } from '../machine/intrinsics.ts';
import { bootInfo } from '../machine/region.ts';
import { FREE, cpuOwner, cpuTenant, cpusOf, listFunctions, listMemory } from '../partition.ts';
import { instanceOf, stillTrapped } from './instance.ts';
import { scheduleOf } from './share.ts';

function exitsOf(instance: u32, cpu: u32): u64 {
  let total: u64 = 0n;
  const vcpu = vcpuOf(instance, cpu);
  for (let reason: u32 = 0; reason < EXIT_COUNTERS; reason++) total += vcpu.exits[reason];
  return total;
}

/** On which processors it has turns as a tenant, and what it has had of turns, as tenant or holder. */
function fillShares(out: InstanceStatus, number: u32): void {
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const isTenant = cpuTenant(i) === number;
    if (isTenant) out.shareMask |= 1n << u64(i);
    if (!isTenant && (cpuOwner(i) !== number || cpuTenant(i) === FREE)) continue;
    const account = scheduleOf(i).accounts[isTenant ? 1 : 0];
    out.ran += account.ran;
    if (account.worstWait > out.worstWait) out.worstWait = account.worstWait;
  }
}

function fillInstance(out: InstanceStatus, number: u32): void {
  const instance = instanceOf(number);
  out.state = instance.state;
  out.cpuMask = cpusOf(number);
  out.weight = instance.weight;
  out.paused = instance.paused ? 1 : 0;
  fillShares(out, number);
  out.startTick = instance.startTick;
  out.stopTick = instance.stopTick;
  out.rangeCount = listMemory(number, out.range);
  for (let reason: u32 = 0; reason < EXIT_COUNTERS; reason++) {
    let total: u64 = 0n;
    for (let i: u32 = 0; i < MAX_CPUS; i++) total += vcpuOf(number, i).exits[reason];
    out.exits[reason] = total;
  }
}

/** Fills in everything for the instance of `vcpu`. */
export function fillStatus(out: Status, vcpu: Vcpu): void {
  const info = bootInfo();
  fillBytes(addressOf(out), 0, u64(sizeOf<Status>()));
  out.abiVersion = ABI_VERSION;
  out.ownInstance = vcpu.instance;
  out.cpuCount = info.cpuCount;
  out.now = readTsc();
  out.tscKhz = info.tscKhz;
  out.stillTrapped = stillTrapped(vcpu.instance);
  out.regionBase = info.regionBase;
  out.regionSize = info.regionSize;
  out.annexBase = info.annexBase;
  out.annexSize = info.annexSize;
  for (let i: u32 = 0; i < MAX_INSTANCES; i++) fillInstance(out.instance[i], i + 1);
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    if (i >= info.cpuCount) break;
    const cpu = out.cpu[i];
    cpu.apicId = cpus[i].apicId;
    cpu.instance = cpuOwner(i);
    cpu.state = cpus[i].state;
    cpu.exits = exitsOf(1, i) + exitsOf(2, i);
  }
  out.functionCount = listFunctions(out.function);
  for (let i: u32 = 0; i < UNCONDITIONAL_EXITS.length; i++) {
    const reason = UNCONDITIONAL_EXITS[i];
    out.unconditional[reason >> 6 & 1] |= 1n << u64(reason & 63);
  }
}
