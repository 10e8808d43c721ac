/**
 * Hypercalls: the one place where what an instance asks for is checked. Numbers
 * and buffers are described in linux/abi.h. A kernel asks, at CPL 0; anything else
 * gets #UD, as on a machine without a VMM.
 */
import {
  BootRequest, ConsoleHeader, Event, EventsHeader, HYPERCALL_ATTACH, HYPERCALL_BOOT, HYPERCALL_CONSOLE_READ,
  HYPERCALL_CONSOLE_WRITE, HYPERCALL_DEVIRTUALIZE, HYPERCALL_EJECT, HYPERCALL_EVENTS, HYPERCALL_GIVE_BACK, HYPERCALL_HIDE, HYPERCALL_PAUSE,
  HYPERCALL_RELEASE, HYPERCALL_RELEASE_BEGIN, HYPERCALL_STATUS, HYPERCALL_STOP, HYPERCALL_TAKE, HYPERCALL_WEIGHT, EventType, InstanceState,
  MAX_WEIGHT, Result, Status, TRAPPED_IO,
} from '../abi.ts';
import { RAX, RDI, RDX, RSI, Vcpu, cpuOf } from '../cpu/cpu.ts';
import { lock, unlock } from '../cpu/kick.ts';
import { advance, guestCpl, injectUd } from '#processor/guest.ts';
import { showVirtualization } from '#processor/msrs.ts';
import { followsPaging } from '#processor/release.ts';
import { putInput, takeOutput } from '../devices/uart.ts';
import { collectViolations } from '../devices/iommu/iommu.ts';
import { EVENT_COUNT, eventAt, nextSequence, record } from '../events.ts';
import { PAGE_SIZE } from '../machine/registers.ts';
import { cpusOf } from '../partition.ts';
import { boot } from './boot.ts';
import { beginRelease, knowFunctions, mayRelease, release } from './capture.ts';
import { ejectFunction, hideFunction } from './eject.ts';
import { type Mapped, guestToHost } from './guest-memory.ts';
import { devirtualize } from './devirtualize.ts';
import { holderOfPlatform, instanceOf, isInstance, stillTrapped } from './instance.ts';
import { raiseConsole } from './io.ts';
import { review, weigh } from './share.ts';
import { fillStatus } from './status.ts';
import { giveBack, stopOther } from './stop.ts';
import { takeEverything } from './take.ts';

const MAX_BUFFER: u64 = 0x10000n;
/** The request is copied before it is checked: the guest may change its own while we look. */
const request: BootRequest = zeroed();

/** Host address of the caller's buffer of at least `needed` bytes, if it is one. */
function bufferOf(vcpu: Vcpu, needed: u32): Mapped<HostVirtual> {
  const length = vcpu.registers[RSI];
  const address = vcpu.registers[RDI];
  if (length < u64(needed) || length > MAX_BUFFER || (address & (PAGE_SIZE - 1n)) !== 0n) return { mapped: false };
  return guestToHost(vcpu.instance, address, length);
}

function status(vcpu: Vcpu): Result {
  const buffer = bufferOf(vcpu, sizeOf<Status>());
  if (!buffer.mapped) return Result.BUFFER;
  if (instanceOf(vcpu.instance).holdsPlatform && (stillTrapped(vcpu.instance) & TRAPPED_IO) !== 0) knowFunctions(vcpu);
  fillStatus(at<Status>(buffer.at), vcpu);
  return Result.OK;
}

/** Copies the events from sequence number RDX on, as many as fit. */
function events(vcpu: Vcpu): Result {
  const buffer = bufferOf(vcpu, sizeOf<EventsHeader>());
  if (!buffer.mapped) return Result.BUFFER;
  const next = nextSequence();
  let sequence: u64 = vcpu.registers[RDX];
  if (next > u64(EVENT_COUNT) && sequence < next - u64(EVENT_COUNT)) sequence = next - u64(EVENT_COUNT);
  const header = at<EventsHeader>(buffer.at);
  let place: u64 = buffer.at + u64(sizeOf<EventsHeader>());
  const end: u64 = buffer.at + vcpu.registers[RSI];
  header.count = 0;
  while (sequence < next && place + u64(sizeOf<Event>()) <= end) {
    copyBytes(place, addressOf(eventAt(sequence)), u64(sizeOf<Event>()));
    place += u64(sizeOf<Event>());
    header.count++;
    sequence++;
  }
  header.nextSequence = sequence;
  return Result.OK;
}

/** Whether RDX names a console that the caller may use: another instance's, while that one has no port of its own. */
function hasConsole(vcpu: Vcpu): boolean {
  const number = wrapU32(vcpu.registers[RDX]);
  return isInstance(number) && number !== vcpu.instance && instanceOf(number).state !== InstanceState.NONE
    && !instanceOf(number).holdsPlatform;
}

function consoleRead(vcpu: Vcpu): Result {
  const buffer = bufferOf(vcpu, sizeOf<ConsoleHeader>());
  if (!buffer.mapped) return Result.BUFFER;
  if (!hasConsole(vcpu)) return Result.INSTANCE;
  const room: u32 = wrapU32(vcpu.registers[RSI]) - sizeOf<ConsoleHeader>();
  at<ConsoleHeader>(buffer.at).count = takeOutput(buffer.at + u64(sizeOf<ConsoleHeader>()), room);
  return Result.OK;
}

function consoleWrite(vcpu: Vcpu): Result {
  const buffer = bufferOf(vcpu, sizeOf<ConsoleHeader>());
  if (!buffer.mapped) return Result.BUFFER;
  if (!hasConsole(vcpu)) return Result.INSTANCE;
  const header = at<ConsoleHeader>(buffer.at);
  const room: u32 = wrapU32(vcpu.registers[RSI]) - sizeOf<ConsoleHeader>();
  // Read once: another processor of the guest may change it.
  const wanted: u32 = load32(buffer.at);
  const count: u32 = wanted < room ? wanted : room;
  header.count = putInput(buffer.at + u64(sizeOf<ConsoleHeader>()), count);
  raiseConsole(cpuOf(vcpu), wrapU32(vcpu.registers[RDX]));
  return Result.OK;
}

function bootRequest(vcpu: Vcpu): Result {
  const buffer = bufferOf(vcpu, sizeOf<BootRequest>());
  if (!buffer.mapped) return Result.BUFFER;
  copyBytes(addressOf(request), buffer.at, u64(sizeOf<BootRequest>()));
  return boot(request, vcpu);
}

function attach(vcpu: Vcpu): Result {
  const instance = instanceOf(vcpu.instance);
  if (instance.attached) return Result.OK;
  instance.attached = true;
  // Its kernel has booted.
  showVirtualization(vcpu.instance, true);
  record(EventType.USERSPACE, vcpu.instance, cpuOf(vcpu).index, 0n, 0n);
  return Result.OK;
}

/** Weights are chosen by the instance that holds the platform. */
function setInstanceWeight(vcpu: Vcpu, number: u32, weight: u32): Result {
  if (!instanceOf(vcpu.instance).holdsPlatform || !isInstance(number) || instanceOf(number).state !== InstanceState.RUNNING) return Result.INSTANCE;
  if (weight < 1 || weight > MAX_WEIGHT) return Result.UNKNOWN;
  instanceOf(number).weight = weight;
  weigh();
  return Result.OK;
}

/** Pauses an instance that has nothing but shares of processors, or lets it go on. */
function pause(vcpu: Vcpu, number: u32, paused: u32): Result {
  if (!isInstance(number) || number === vcpu.instance || instanceOf(number).state !== InstanceState.RUNNING) return Result.INSTANCE;
  if (cpusOf(number) !== 0n) return Result.CPU;
  instanceOf(number).paused = paused !== 0;
  review(cpuOf(vcpu));
  return Result.OK;
}

function dispatch(vcpu: Vcpu, number: u32): Result {
  const argument: u32 = wrapU32(vcpu.registers[RDX]);
  collectViolations(holderOfPlatform());
  switch (number) {
    case HYPERCALL_ATTACH: return attach(vcpu);
    case HYPERCALL_RELEASE_BEGIN: return beginRelease(vcpu, vcpu.registers[RDX]);
    case HYPERCALL_STATUS: return status(vcpu);
    case HYPERCALL_EVENTS: return events(vcpu);
    case HYPERCALL_CONSOLE_READ: return consoleRead(vcpu);
    case HYPERCALL_CONSOLE_WRITE: return consoleWrite(vcpu);
    case HYPERCALL_BOOT: return bootRequest(vcpu);
    case HYPERCALL_STOP: return stopOther(vcpu, argument);
    case HYPERCALL_TAKE: return takeEverything(vcpu);
    case HYPERCALL_GIVE_BACK: return giveBack(vcpu, argument);
    case HYPERCALL_HIDE: return hideFunction(vcpu, argument);
    case HYPERCALL_EJECT: return ejectFunction(vcpu, argument);
    case HYPERCALL_DEVIRTUALIZE: return devirtualize(vcpu, wrapU32(vcpu.registers[RSI]), vcpu.registers[RDX]);
    case HYPERCALL_WEIGHT: return setInstanceWeight(vcpu, argument, wrapU32(vcpu.registers[RDX] >> 32n));
    case HYPERCALL_PAUSE: return pause(vcpu, argument, wrapU32(vcpu.registers[RDX] >> 32n));
    default: return Result.UNKNOWN;
  }
}

/** The hypercall's exit. */
export function handleHypercall(vcpu: Vcpu): void {
  if (guestCpl(vcpu) !== 0) {
    injectUd(vcpu);
    return;
  }
  const number = wrapU32(vcpu.registers[RAX]);
  if (number === HYPERCALL_RELEASE && mayRelease(vcpu)) {
    if (!followsPaging(vcpu)) return;
    advance(vcpu);
    release(vcpu);
  }
  if (!lock(vcpu)) return;
  const result = dispatch(vcpu, number);
  vcpu.registers[RAX] = u64(result);
  advance(vcpu);
  unlock();
}
