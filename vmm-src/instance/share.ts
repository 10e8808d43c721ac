/**
 * Sharing: a processor carries a virtual CPU of each of two instances, by turns. Any
 * processor of the first can be shared, several too, and beside whole ones of the second.
 * Who has the turn is schedule.ts's to say. Here are the beginning and the end of
 * it, and what happens at every exit in between (handleRareExit asks at its end who
 * goes on):
 *
 * - The holder keeps the local APIC and its interrupts cost it no exit. One that
 *   arrives while the tenant runs makes that exit, stays pending, and is taken by
 *   the holder as soon as it is entered, which is at once.
 * - The tenant has a virtual local APIC (tenant-apic.ts), whose interrupts are
 *   injected when it can take them.
 * - A tenant may wait for its SIPI, as any processor that an instance has not started
 *   yet: INIT and SIPI are posted to it, as what other processors send always is.
 * - HLT gives the turn away. While the tenant does not want it, the holder halts as
 *   on a bare machine, in its HLT activity state, and the turn's timer ends where
 *   the tenant's next deadline is.
 */
import { EventType, ResourceKind } from '../abi.ts';
import { carry, forgetContext, hasRoomForContexts, prepareContexts } from '../cpu/context.ts';
import { Cpu, Idle, StartKind, Vcpu, cpuOf, cpus, isTenant, sharedView, tenantOf } from '../cpu/cpu.ts';
import { Exit } from '../cpu/exit.ts';
import { answerRing, attract, closeTenancy, rememberLogicalId } from '../cpu/kick.ts';
import { isX2apic, markBootstrap, measureTimer, readApic, resetLocalApic, sendIpi, writeApic } from '../cpu/local-apic.ts';
import { setTaskPriorityThreshold } from '#processor/apic.ts';
import { makeCurrent } from '#processor/context.ts';
import { advance } from '#processor/guest.ts';
import {
  HAS_TURN_TIMER, becomeAlone, becomeHolder, becomeTenant, blocksTurns, canShare, hasInterruptsOn, injectInterrupt,
  injectMachineCheck, injectTenantNmi, isHalted, prepareEntry, setHaltExits, setHalted, setInterruptWindow, setNmiWindow, setTurnTimer, takesInterrupt, takesNmi,
} from '#processor/share.ts';
import { buildVcpu, startAtVector, waitForSipi } from '#processor/start.ts';
import { adoptView, retire } from '#processor/vcpu.ts';
import { advanceTick, keepTick, tickDeadline } from '../devices/tick.ts';
import {
  NO_INTERRUPT, VirtualApic, acknowledge, apicModel, beginInX2apicMode, collectPosted, deliverable, initVirtualApic, raise, resetVirtualApic,
  takeInit, takeNmi, takeSipi, taskPriorityThreshold, virtualApic,
} from '../devices/virtual-apic.ts';
import { canHandOver, handOverApic, openRealApic } from '../devices/virtual-apic-handover.ts';
import { advance as advanceTimer, nextDeadline, setTimerRate } from '../devices/virtual-apic-timer.ts';
import { record } from '../events.ts';
import { APIC_SVR, APIC_VERSION, ICR_ASSERT, ICR_MODE_NMI, SVR_ENABLE, SVR_RESET } from '../machine/apic.ts';
import { CpuidResult, cpuid, readTsc } from '../machine/intrinsics.ts';
import { CPUID_1_ECX_TSC_DEADLINE, CPUID_1_ECX_X2APIC } from '../machine/registers.ts';
import { bootInfo } from '../machine/region.ts';
import { FREE, setCpuOwner, setCpuTenant } from '../partition.ts';
import { returnTimer, serveTimer, takeTimer, timerDeadline } from './holder-timer.ts';
import { instanceOf, openTenantView } from './instance.ts';
import { attachTenantApic } from './tenant-apic.ts';
import { Call, Schedule, Turn, decide, resetSchedule, setWeight } from './schedule.ts';

const schedules: FixedArray<Schedule, 32> = zeroed();
/** When a tenant's MWAIT is over at the latest. */
const mwaitEnds: FixedArray<u64, 32> = zeroed();

export function scheduleOf(cpu: u32): Schedule {
  return schedules[cpu];
}

/** Whether `count` processors like the one that runs this could be shared. */
export function mayShare(count: u32): boolean {
  return canShare() && hasRoomForContexts(count);
}

/** Whether an instance has a share of a processor, or of one whose local APIC it has still to get. */
export function hasShares(instance: u32): boolean {
  for (let i: u32 = 0; i < cpus.length; i++) {
    if (tenantOf(cpus[i], instance) !== null) return true;
  }
  return false;
}

/** The virtual APIC is one as the real one is, which it may become. */
function copyModel(): void {
  const leaf: CpuidResult = zeroed();
  cpuid(1, 0, leaf);
  apicModel.version = readApic(APIC_VERSION);
  apicModel.hasTscDeadline = (leaf.ecx & CPUID_1_ECX_TSC_DEADLINE) !== 0;
  apicModel.hasX2apic = (leaf.ecx & CPUID_1_ECX_X2APIC) !== 0;
  const rate = measureTimer();
  if (rate !== 0n) setTimerRate(rate);
}

/** The processor that runs this, so far `holder`'s alone, carries `tenant` too, from its start. */
export function share(holder: Vcpu, tenant: Vcpu): void {
  const cpu = cpuOf(holder);
  prepareContexts(holder, tenant);
  openTenantView(tenant.instance);
  tenant.view = sharedView(tenant.instance);
  copyModel();
  const boots = tenant.start === StartKind.BOOT_64;
  const apic = virtualApic(cpu.index);
  resetVirtualApic(apic, tenant.instance, cpu.apicId, boots);
  if (instanceOf(tenant.instance).x2apic) beginInX2apicMode(apic);
  resetSchedule(schedules[cpu.index], readTsc(), bootInfo().tscKhz);
  applyWeights(cpu.index, holder.instance, tenant.instance);
  assert(buildVcpu(tenant, cpu));
  becomeTenant(tenant);
  attachTenantApic(tenant);
  tenant.idle = boots ? Idle.NONE : Idle.STARTUP;
  makeCurrent(holder);
  becomeHolder(holder);
  takeTimer(holder);
  holder.idle = Idle.NONE;
  cpu.holder = holder;
  cpu.tenant = tenant;
  setCpuTenant(cpu.index, tenant.instance);
  record(EventType.GRANTED, tenant.instance, cpu.index, u64(ResourceKind.SHARE), u64(cpu.index));
}

function applyWeights(cpu: u32, holder: u32, tenant: u32): void {
  setWeight(schedules[cpu], Turn.HOLDER, instanceOf(holder).weight);
  setWeight(schedules[cpu], Turn.TENANT, instanceOf(tenant).weight);
}

/** The shared processors look at once whose turn it is: an instance may have one again. */
export function review(self: Cpu): void {
  for (let i: u32 = 0; i < cpus.length; i++) {
    if (i !== self.index && cpus[i].tenant !== null) attract(cpus[i]);
  }
}

/** Weights have changed: they count from the next decision on. */
export function weigh(): void {
  for (let i: u32 = 0; i < cpus.length; i++) {
    const holder = cpus[i].holder;
    const tenant = cpus[i].tenant;
    if (holder !== null && tenant !== null) applyWeights(i, holder.instance, tenant.instance);
  }
}

function endSharing(cpu: Cpu, left: Vcpu): void {
  cpu.holder = null;
  cpu.strayUntil = readTsc() + u64(bootInfo().tscKhz);
  left.idle = Idle.NONE;
  forgetContext(left);
  setCpuTenant(cpu.index, FREE);
}

/** The instance of one of the two that the processor that runs this carries has ended: the other one is left. */
export function unshare(cpu: Cpu, ended: Vcpu): void {
  if (cpu.tenant === ended) dropTenant(cpu);
  else dropHolder(cpu);
}

/** The tenant's instance has ended: the processor is its holder's alone again. */
function dropTenant(cpu: Cpu): void {
  const holder = cpu.holder;
  const tenant = cpu.tenant;
  if (holder === null || tenant === null) return;
  carry(cpu, holder);
  closeTenancy(cpu);
  retire(tenant);
  makeCurrent(holder);
  becomeAlone(holder);
  returnTimer(holder);
  forgetContext(tenant);
  endSharing(cpu, holder);
}

/**
 * The holder's instance has ended: the tenant is left. It gets the local APIC as
 * soon as it is in no interrupt handler; until then it goes on with its virtual one.
 */
function dropHolder(cpu: Cpu): void {
  const holder = cpu.holder;
  const tenant = cpu.tenant;
  if (holder === null || tenant === null) return;
  carry(cpu, tenant);
  retire(holder);
  makeCurrent(tenant);
  resetLocalApic();
  if (!HAS_TURN_TIMER) writeApic(APIC_SVR, SVR_RESET | SVR_ENABLE);
  forgetContext(holder);
  cpu.holder = null;
  setCpuOwner(cpu.index, tenant.instance);
  record(EventType.GRANTED, tenant.instance, cpu.index, u64(ResourceKind.CPU), u64(cpu.index));
}

/** A tenant without a holder becomes the holder: its virtual local APIC the real one. */
function succeed(cpu: Cpu, tenant: Vcpu, now: u64): void {
  const apic = virtualApic(cpu.index);
  openRealApic(apic);
  closeTenancy(cpu);
  takeSignals(tenant, cpu, apic);
  const waits = tenant.idle === Idle.STARTUP;
  becomeAlone(tenant);
  if (!waits) setHalted(tenant, tenant.idle === Idle.HALT || tenant.idle === Idle.HALT_DEAF);
  if (tenant.nmiPending !== 0) sendIpi(cpu.apicId, ICR_MODE_NMI | ICR_ASSERT);
  tenant.nmiPending = 0;
  endSharing(cpu, tenant);
  adoptView(tenant, tenant.instance);
  handOverApic(apic, now);
  instanceOf(tenant.instance).x2apic = isX2apic();
  markBootstrap(tenant.start === StartKind.BOOT_64);
  rememberLogicalId(tenant);
  keepTick(tenant);
  if (waits) waitForSipi(tenant, cpu);
}

/** The guest executed HLT, on a processor where that exits. */
export function handleHalt(vcpu: Vcpu): void {
  advance(vcpu);
  if (!isTenant(vcpu)) setHalted(vcpu, true);
  else vcpu.idle = hasInterruptsOn(vcpu) ? Idle.HALT : Idle.HALT_DEAF;
}

/** MWAIT may end at any time: it gives the turn away, and is over when the turn comes back. */
export function handleMwait(vcpu: Vcpu): void {
  advance(vcpu);
  vcpu.idle = Idle.MWAIT;
  const index = cpuOf(vcpu).index;
  mwaitEnds[index] = readTsc() + schedules[index].period;
}

/** A machine check is the platform's, and so the holder's. */
export function handleMachineCheck(vcpu: Vcpu): void {
  const cpu = cpuOf(vcpu);
  const holder = cpu.holder;
  if (holder === null) return;
  carry(cpu, holder);
  injectMachineCheck(holder);
}

/** What its instance has sent the tenant past its local APIC (SDM Vol. 3A, 10.4.4 and 12.4.7.3). */
function takeSignals(tenant: Vcpu, cpu: Cpu, apic: VirtualApic): void {
  if (takeInit(apic)) {
    tenant.idle = Idle.STARTUP;
    tenant.nmiPending = 0;
    initVirtualApic(apic);
  }
  const sipi = takeSipi(apic);
  if (sipi !== NO_INTERRUPT && tenant.idle === Idle.STARTUP) {
    carry(cpu, tenant);
    startAtVector(tenant, u64(sipi));
    becomeTenant(tenant);
    attachTenantApic(tenant);
    tenant.idle = Idle.NONE;
    record(EventType.CPU_STARTED, tenant.instance, cpu.index, u64(sipi), 0n);
  }
  if (takeNmi(apic) && tenant.idle !== Idle.STARTUP) tenant.nmiPending = 1;
}

/** Brings the tenant's timers up to now, and wakes it if there is something for it. */
function attend(tenant: Vcpu, cpu: Cpu, now: u64): void {
  const apic = virtualApic(cpu.index);
  answerRing(cpu);
  takeSignals(tenant, cpu, apic);
  collectPosted(apic);
  advanceTimer(apic, now);
  const vector = advanceTick(cpu.index, now);
  if (vector !== 0) raise(apic, vector, false);
  if (tenant.idle === Idle.STARTUP) return;
  if (tenant.nmiPending !== 0) tenant.idle = Idle.NONE;
  if (tenant.idle === Idle.NONE || tenant.idle === Idle.HALT_DEAF) return;
  if (tenant.idle === Idle.MWAIT && now >= mwaitEnds[cpu.index]) tenant.idle = Idle.NONE;
  if (deliverable(apic) !== NO_INTERRUPT) tenant.idle = Idle.NONE;
}

function earlier(a: u64, b: u64): u64 {
  return a < b ? a : b;
}

/** When the tenant next has something to do, as far as is known. */
function tenantDeadline(cpu: Cpu, tenant: Vcpu): u64 {
  const deadline = earlier(nextDeadline(virtualApic(cpu.index)), tickDeadline(cpu.index));
  return tenant.idle === Idle.MWAIT ? earlier(deadline, mwaitEnds[cpu.index]) : deadline;
}

function armTurn(vcpu: Vcpu, now: u64, turnEnd: u64): void {
  const end = earlier(turnEnd, timerDeadline(cpuOf(vcpu)));
  setTurnTimer(vcpu, end > now ? end - now : 0n);
}

function enterHolder(cpu: Cpu, holder: Vcpu, tenant: Vcpu, now: u64): void {
  const wanted = wantsTurn(tenant);
  setHaltExits(holder, wanted);
  const paused = instanceOf(tenant.instance).paused;
  armTurn(holder, now, wanted ? schedules[cpu.index].turnEnd : paused ? ~0n : tenantDeadline(cpu, tenant));
}

/** What the tenant gets with its entry: an NMI of its own, or the interrupt of highest priority, now or as soon as it can take it. */
function offerEvents(cpu: Cpu, tenant: Vcpu): void {
  if (tenant.nmiPending !== 0 && takesNmi(tenant)) {
    tenant.nmiPending = 0;
    injectTenantNmi(tenant);
  }
  setNmiWindow(tenant, tenant.nmiPending !== 0);
  const apic = virtualApic(cpu.index);
  const vector = deliverable(apic);
  const ready = vector !== NO_INTERRUPT && takesInterrupt(tenant);
  if (ready) {
    acknowledge(apic, vector);
    injectInterrupt(tenant, vector);
  }
  setInterruptWindow(tenant, vector !== NO_INTERRUPT && !ready);
  setTaskPriorityThreshold(tenant, vector === NO_INTERRUPT ? taskPriorityThreshold(apic) : 0);
}

function enterTenant(cpu: Cpu, tenant: Vcpu, now: u64, contended: boolean): void {
  tenant.idle = Idle.NONE;
  offerEvents(cpu, tenant);
  const deadline = tenantDeadline(cpu, tenant);
  armTurn(tenant, now, contended ? earlier(deadline, schedules[cpu.index].turnEnd) : deadline);
}

function wantsTurn(tenant: Vcpu): boolean {
  return tenant.idle === Idle.NONE && !instanceOf(tenant.instance).paused;
}

/** A tenant whose holder is gone runs alone: it waits for its own deadlines in HLT, where nothing else arrives. */
function runAlone(cpu: Cpu, tenant: Vcpu, now: u64): Vcpu {
  if (canHandOver(virtualApic(cpu.index))) {
    succeed(cpu, tenant, now);
    return tenant;
  }
  setHalted(tenant, tenant.idle !== Idle.NONE);
  if (tenant.idle === Idle.NONE) enterTenant(cpu, tenant, now, false);
  else armTurn(tenant, now, tenantDeadline(cpu, tenant));
  return tenant;
}

function callOf(cpu: Cpu, exit: Exit, running: Vcpu, tenant: Vcpu): Call {
  const isOwnNmi = exit === Exit.NMI && cpu.signalled === 0;
  if (exit === Exit.INTERRUPT || exit === Exit.MACHINE_CHECK || isOwnNmi || blocksTurns()) return Call.HOLDER;
  if (running === tenant) return Call.NONE;
  return exit === Exit.MWAIT ? Call.YIELD : Call.NONE;
}

/** Whose turn it is after an exit, which has been handled. */
function choose(cpu: Cpu, exit: Exit): Vcpu {
  const running = cpu.vcpu;
  const tenant = cpu.tenant;
  if (running === null || tenant === null) unreachable();
  const now = readTsc();
  const holder = cpu.holder;
  if (holder !== null && running === holder) holder.idle = isHalted(holder) ? Idle.HALT : Idle.NONE;
  attend(tenant, cpu, now);
  const due = serveTimer(cpu, now);
  if (holder === null) return runAlone(cpu, tenant, now);
  const schedule = schedules[cpu.index];
  const was: Turn = running === tenant ? Turn.TENANT : Turn.HOLDER;
  const holderWants = holder.idle === Idle.NONE;
  const turn = decide(schedule, now, was, holderWants, wantsTurn(tenant), due ? Call.HOLDER : callOf(cpu, exit, running, tenant));
  if (turn === Turn.HOLDER) {
    carry(cpu, holder);
    enterHolder(cpu, holder, tenant, now);
    return holder;
  }
  carry(cpu, tenant);
  enterTenant(cpu, tenant, now, holderWants);
  return tenant;
}

/** After an exit of one of the two virtual CPUs of a processor, which has been handled: the one that goes on, ready to be entered. */
export function nextTurn(cpu: Cpu, exit: Exit): Vcpu {
  const next = choose(cpu, exit);
  prepareEntry(next);
  return next;
}
