/**
 * How one processor makes another do something in the VMM. The order is left in
 * its mailbox; a signal that the guest does not notice (#processor/signal.ts)
 * makes it look there.
 */
import { CpuState, MAX_CPUS } from '../abi.ts';
import { APIC_ICR_HIGH, APIC_LDR } from '../machine/apic.ts';
import { pause } from '../machine/intrinsics.ts';
import { Command, Cpu, Vcpu, carries, cpuOf, cpus, isTenant } from './cpu.ts';
import { isX2apic, ownApicId, readApic, writeApic } from './local-apic.ts';
import { flushMemoryMap } from '#processor/guest.ts';
import { adaptControls } from '#processor/direct.ts';
import { RINGS_ARE_KEPT, expectSignal, isLeftOver, sendRing, signal } from '#processor/signal.ts';

let lockHeld: u32 = 0;
/** Number of the processor that has the lock. */
let lockOwner: u32 = 0;
let holding: u32 = 0;

/**
 * A signal can be missed: a SIPI by a processor on its way into the wait, an INIT
 * (in Bochs) by one that is in the VMM. After this many polls it is sent again; on
 * hardware a second INIT before the first is taken is the same INIT.
 */
const SIGNAL_AGAIN: u32 = 10000;

/** Orders and waits until the other processor has taken the order up, or has failed. */
function order(cpu: Cpu, command: Command): void {
  atomicStore(cpu.command, command);
  signal(cpu);
  let polls: u32 = 0;
  while (atomicLoad(cpu.command) !== Command.NONE) {
    if (cpu.state === CpuState.FAILED) return;
    pause();
    polls++;
    if (polls % SIGNAL_AGAIN === 0) signal(cpu);
  }
}

/** Makes a processor carry another virtual CPU, from its start. */
export function orderSwitch(cpu: Cpu, vcpu: Vcpu): void {
  cpu.commandVcpu = vcpu;
  order(cpu, Command.SWITCH);
}

/** Makes a shared processor that of the other instance: `ended`'s has ended. */
export function orderUnshare(cpu: Cpu, ended: Vcpu): void {
  cpu.commandVcpu = ended;
  order(cpu, Command.UNSHARE);
}

/** Makes a processor carry a second virtual CPU, from its start. */
export function orderShare(cpu: Cpu, tenant: Vcpu): void {
  cpu.commandVcpu = tenant;
  order(cpu, Command.SHARE);
}

const RING_POLLS: u32 = 2000;
const RINGS: u32 = 4;

/**
 * Makes a shared processor look at what has been posted for its tenant. Two may ring
 * each other, from the VMM where neither takes a signal: so this is no order, but
 * waits for a while at most, where it could be missed. Either looks again before it
 * enters a guest.
 */
export function ring(self: Cpu, cpu: Cpu): void {
  atomicStore(cpu.rung, 1);
  for (let i: u32 = 0; i < RINGS; i++) {
    sendRing(cpu);
    if (RINGS_ARE_KEPT) return;
    for (let polls: u32 = 0; polls < RING_POLLS; polls++) {
      if (atomicLoad(cpu.rung) === 0) return;
      atomicStore(self.rung, 0);
      pause();
    }
  }
}

/** The processor that runs this looks at what has been posted for its tenant. */
export function answerRing(cpu: Cpu): void {
  atomicStore(cpu.rung, 0);
}

/**
 * The processor that runs this has no tenant from here on: nobody posts for it any more, or rings, and those that were
 * about to have done so. What they have posted is still to be looked at.
 */
export function closeTenancy(cpu: Cpu): void {
  cpu.tenant = null;
  // The first store of this loop makes the one above seen before `ringing` is looked at.
  do {
    answerRing(cpu);
    pause();
  } while (atomicLoad(cpu.ringing) !== 0);
}

/** Makes a processor exit, and look at whose turn it is. */
export function attract(cpu: Cpu): void {
  order(cpu, Command.FLUSH);
}

/** Makes a processor leave virtualization and halt. */
export function orderLeave(cpu: Cpu): void {
  order(cpu, Command.LEAVE);
}

/** Keeps what the kernel has put into the real LDR and ICR, before its writes to them are looked at. */
export function rememberLogicalId(vcpu: Vcpu): void {
  const real = readApic(APIC_LDR);
  if (real !== 0) vcpu.ldr = real;
  if (!isX2apic()) vcpu.icrHigh = readApic(APIC_ICR_HIGH);
}

/** The processor that runs this takes the logical id that its kernel has chosen, which the guard kept to itself. */
export function exposeLogicalId(vcpu: Vcpu): void {
  if (vcpu.ldr !== 0 && !isX2apic()) writeApic(APIC_LDR, vcpu.ldr);
  vcpu.exposeLdr = 0;
}

/** Forgets what a processor has cached of the maps of all that it carries. */
function flushMaps(cpu: Cpu, vcpu: Vcpu): void {
  const holder = cpu.holder;
  const tenant = cpu.tenant;
  flushMemoryMap(vcpu);
  if (holder !== null && holder !== vcpu) flushMemoryMap(holder);
  if (tenant !== null && tenant !== vcpu) flushMemoryMap(tenant);
}

/** A processor that is to be held has its local APIC's logical id put in order: the one of the virtual CPU that holds it. */
function settleLogicalId(cpu: Cpu, vcpu: Vcpu): void {
  const holder = cpu.holder;
  const owner = holder === null ? vcpu : holder;
  if (owner.exposeLdr !== 0) exposeLogicalId(owner);
  else if (!isTenant(owner)) rememberLogicalId(owner);
}

/** Whether the order that made `cpu` exit is one that it can carry out and go on as before. */
function carryOutInPlace(cpu: Cpu, vcpu: Vcpu): boolean {
  const command = atomicLoad(cpu.command);
  if (command === Command.FLUSH) flushMaps(cpu, vcpu);
  else if (command === Command.HOLD) {
    cpu.held = 1;
    settleLogicalId(cpu, vcpu);
  }
  else return false;
  atomicStore(cpu.command, Command.NONE);
  while (cpu.held !== 0 && atomicLoad(holding) !== 0) {
    // Let go and held again, faster than it was seen here.
    if (atomicLoad(cpu.command) === Command.HOLD) atomicStore(cpu.command, Command.NONE);
    pause();
  }
  if (command === Command.HOLD) {
    adaptControls(vcpu);
    flushMaps(cpu, vcpu);
  }
  cpu.held = 0;
  return true;
}

/** Whether there is an order for the processor that runs this. Looked for at any exit: one that never executes an instruction takes no INIT. */
export function hasOrder(cpu: Cpu): boolean {
  return atomicLoad(cpu.command) !== Command.NONE;
}

/** The processor that runs this stops for good: nobody waits for it, or for a lock that it has. */
export function failProcessor(): void {
  const id = ownApicId();
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const cpu = cpus[i];
    if (cpu.vcpu === null || cpu.apicId !== id) continue;
    cpu.state = CpuState.FAILED;
    if (atomicLoad(lockHeld) !== 0 && lockOwner === i) unlock();
  }
}

/** A signal has arrived: what is asked of this processor. FLUSH: it has been carried out; NONE: the signal is the guest's own. */
export function takeOrder(vcpu: Vcpu): Command {
  const cpu = cpuOf(vcpu);
  if (carryOutInPlace(cpu, vcpu)) return Command.FLUSH;
  const command = atomicLoad(cpu.command);
  if (command !== Command.NONE) return command;
  return isLeftOver(cpu) ? Command.FLUSH : Command.NONE;
}

/** The other processor goes on: its order is taken up. */
export function finishOrder(cpu: Cpu): void {
  atomicStore(cpu.command, Command.NONE);
}

/**
 * Takes the one lock of the VMM's instances and partition. Whoever waits for it
 * carries out orders meanwhile, since the holder may be waiting for this
 * processor. False: there is an order that ends this virtual CPU's turn; give up
 * and let the guest repeat what it asked for.
 */
export function lock(vcpu: Vcpu): boolean {
  const cpu = cpuOf(vcpu);
  while (atomicExchange(lockHeld, 1) !== 0) {
    if (carryOutInPlace(cpu, vcpu)) expectSignal(cpu);
    else if (atomicLoad(cpu.command) !== Command.NONE) return false;
    pause();
  }
  lockOwner = cpu.index;
  return true;
}

export function unlock(): void {
  atomicStore(lockHeld, 0);
}

/**
 * Makes every processor that carries an instance forget what it has looked up in its map, for a change beneath running
 * guests; the caller has the lock. Those that are held do so when they are let go.
 */
export function flushOthers(instance: u32): void {
  const self = cpus[lockOwner];
  const own = self.vcpu;
  if (own !== null) flushMaps(self, own);
  if (atomicLoad(holding) !== 0) return;
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const cpu = cpus[i];
    if (cpu.vcpu === null || i === lockOwner || cpu.state !== CpuState.RUNNING) continue;
    if (carries(cpu, instance)) order(cpu, Command.FLUSH);
  }
}

/** Holds every other processor that runs an instance (from 1; 0: any), for a change that must not be seen half done. */
export function holdOthers(self: Cpu, instance: u32): void {
  atomicStore(holding, 1);
  for (let i: u32 = 0; i < MAX_CPUS; i++) {
    const cpu = cpus[i];
    if (cpu.vcpu === null || cpu.index === self.index || cpu.state !== CpuState.RUNNING) continue;
    if (instance === 0 || carries(cpu, instance)) order(cpu, Command.HOLD);
  }
}

/** Lets the held go on; each forgets its cached translations first. */
export function letGo(): void {
  atomicStore(holding, 0);
}
