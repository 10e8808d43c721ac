/**
 * Who has the turn on a shared processor: pure policy, without a look at the
 * machine. Each of the two gets its weight's part of the time in which both want
 * the processor. What one has run is counted as virtual time, ticks divided by its
 * weight; the turn passes when the one that runs is ahead by a window, which is
 * chosen so that a round of both turns takes a period; nobody waits longer than that.
 *
 *   virtual   ┌ holder runs ┐             ┌───
 *   time      │             └ tenant runs ┘       ahead by a window ⇒ the other
 *
 * Whoever sleeps saves nothing up beyond a window. All times in TSC ticks.
 */
import "../../compiler/core/dialect.mjs";

export enum Turn { HOLDER = 0, TENANT = 1 }

/** What makes a decision be what it is, beyond the accounts. */
export enum Call {
  NONE = 0,
  /** An interrupt of the holder's waits: it has the turn, if only for a moment. */
  HOLDER = 1,
  /** The one that runs gives the rest of its turn away though it could go on. */
  YIELD = 2,
}

const VIRTUAL_SHIFT: u64 = 10n;

class Account extends Struct {
  /** Ticks run, shifted, by weight. */
  virtual: u64;
  /** Ticks run in all. */
  ran: u64;
  /** Since when it wants the turn and has it not; 0 while that is not so. */
  waitsSince: u64;
  worstWait: u64;
  weight: u32;
  wants: boolean;
  padding0: u8;
  padding1: u16;
}

export class Schedule extends Struct {
  accounts: FixedArray<Account, 2>;
  /** Up to when the one that runs has been charged. */
  since: u64;
  /** A round of both turns. */
  period: u64;
  /** How far one may be ahead of the other in virtual time: half a round of each one's turns. */
  window: u64;
  /** The shortest turn: of an interrupt's, or at the end of a window. */
  least: u64;
  /** When the turn passes, if the other one still wants it then. */
  turnEnd: u64;
}

/** Parts of a second. */
const PERIODS_PER_SECOND: u64 = 125n;
const LEAST_PER_PERIOD: u64 = 80n;

/** Begins: the holder runs, both have weight 1, a round takes 8 ms and a turn at least 100 µs. */
export function resetSchedule(schedule: Schedule, now: u64, tscKhz: u32): void {
  fillBytes(addressOf(schedule), 0, u64(sizeOf<Schedule>()));
  schedule.since = now;
  schedule.period = u64(tscKhz) * 1000n / PERIODS_PER_SECOND;
  schedule.least = schedule.period / LEAST_PER_PERIOD;
  setWeight(schedule, Turn.HOLDER, 1);
  setWeight(schedule, Turn.TENANT, 1);
}

export function setWeight(schedule: Schedule, turn: Turn, weight: u32): void {
  schedule.accounts[u32(turn) & 1].weight = weight;
  const weights: u32 = schedule.accounts[0].weight + schedule.accounts[1].weight;
  schedule.window = (schedule.period << VIRTUAL_SHIFT) / u64(2 * weights);
}

function other(turn: Turn): Turn {
  return turn === Turn.HOLDER ? Turn.TENANT : Turn.HOLDER;
}

function accountOf(schedule: Schedule, turn: Turn): Account {
  return schedule.accounts[u32(turn) & 1];
}

/** Whoever has just begun to want the turn has not saved up more than a window. */
function setWants(schedule: Schedule, turn: Turn, wants: boolean): void {
  const account = accountOf(schedule, turn);
  if (wants && !account.wants) {
    const ahead = accountOf(schedule, other(turn)).virtual;
    const floor: u64 = ahead > schedule.window ? ahead - schedule.window : 0n;
    if (account.virtual < floor) account.virtual = floor;
  }
  account.wants = wants;
}

/** Whether one has waited for as long as anybody may. */
function isOverdue(schedule: Schedule, account: Account, now: u64): boolean {
  return account.waitsSince !== 0n && now - account.waitsSince >= schedule.period;
}

function choose(schedule: Schedule, running: Turn, call: Call, now: u64): Turn {
  const holder = schedule.accounts[0];
  const tenant = schedule.accounts[1];
  if (call === Call.HOLDER || !tenant.wants) return Turn.HOLDER;
  if (!holder.wants) return Turn.TENANT;
  if (call === Call.YIELD) return other(running);
  const mine = accountOf(schedule, running);
  const its = accountOf(schedule, other(running));
  return mine.virtual >= its.virtual + schedule.window || isOverdue(schedule, its, now) ? other(running) : running;
}

/** Notes that one of them waits, or that its wait is over. */
function noteWait(account: Account, waits: boolean, now: u64): void {
  if (waits) {
    if (account.waitsSince === 0n) account.waitsSince = now;
    return;
  }
  if (account.waitsSince === 0n) return;
  const wait: u64 = now - account.waitsSince;
  if (wait > account.worstWait) account.worstWait = wait;
  account.waitsSince = 0n;
}

/** How long the chosen one may go on before it is ahead by a window, or the other overdue. */
function turnLength(schedule: Schedule, turn: Turn, now: u64): u64 {
  const waiting = accountOf(schedule, other(turn));
  if (isOverdue(schedule, waiting, now)) return schedule.least;
  const most: u64 = waiting.waitsSince === 0n ? schedule.period : waiting.waitsSince + schedule.period - now;
  const mine = accountOf(schedule, turn);
  const limit = accountOf(schedule, other(turn)).virtual + schedule.window;
  if (limit <= mine.virtual) return schedule.least;
  const ticks: u64 = ((limit - mine.virtual) * u64(mine.weight)) >> VIRTUAL_SHIFT;
  if (ticks < schedule.least) return schedule.least;
  return ticks < most ? ticks : most;
}

/**
 * Charges `running` for the time since the last decision and says who runs from
 * `now` on; `turnEnd` is when that is to be decided anew. If nobody wants the
 * processor, the holder has it, to wait for its interrupts there.
 */
export function decide(schedule: Schedule, now: u64, running: Turn, holderWants: boolean, tenantWants: boolean, call: Call): Turn {
  const runner = accountOf(schedule, running);
  if (runner.wants) {
    runner.ran += now - schedule.since;
    runner.virtual += ((now - schedule.since) << VIRTUAL_SHIFT) / u64(runner.weight);
  }
  schedule.since = now;
  setWants(schedule, Turn.HOLDER, holderWants || call === Call.HOLDER);
  setWants(schedule, Turn.TENANT, tenantWants);
  const turn = choose(schedule, running, call, now);
  const waiting = accountOf(schedule, other(turn));
  noteWait(accountOf(schedule, turn), false, now);
  noteWait(waiting, waiting.wants, now);
  schedule.turnEnd = now + turnLength(schedule, turn, now);
  return turn;
}
