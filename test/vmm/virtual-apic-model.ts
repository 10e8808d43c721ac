/**
 * A second local APIC, as plain as the SDM's prose: requests are sets, priorities
 * are looked for, and the timer counts every tick. Slow, and nothing in it comes
 * from the one that it is compared with.
 */

const MASKED = 0x10000;
const ENABLED = 0x100;

export class ModelApic {
  readonly irr = new Set<number>();
  readonly isr = new Set<number>();
  readonly tmr = new Set<number>();
  tpr = 0;
  svr = 0xff;
  errorLvt = MASKED;
  timerLvt = MASKED;
  divideRegister = 0;
  initial = 0;
  count = 0;
  private fraction = 0;
  deadline = 0;
  pendingErrors = 0;
  latchedErrors = 0;

  /** `rate`: TSC ticks to 65,536 counts of a timer that divides by 1. */
  constructor(public now: number, private readonly rate: number) {}

  private static classOf(vector: number): number { return Math.floor(vector / 16); }
  private static max(set: Set<number>): number { return Math.max(-1, ...set); }

  get ppr(): number {
    const service = Math.max(0, ModelApic.classOf(ModelApic.max(this.isr)));
    const task = ModelApic.classOf(this.tpr);
    return task >= service ? this.tpr : service * 16;
  }

  get deliverable(): number | null {
    const best = ModelApic.max(this.irr);
    return best >= 0 && ModelApic.classOf(best) > ModelApic.classOf(this.ppr) ? best : null;
  }

  /** The least TPR class that holds everything back while one less does not; 0 if TPR is not what holds it back. */
  get threshold(): number {
    const before = this.tpr;
    try {
      if (this.deliverable !== null) return 0;
      for (let task = 0; task < 16; task++) {
        this.tpr = task * 16;
        if (this.deliverable === null) return task;
      }
      return 0;
    } finally {
      this.tpr = before;
    }
  }

  get enabled(): boolean { return (this.svr & ENABLED) !== 0; }
  private get mode(): number { return (this.timerLvt >> 17) & 3; }
  private get divide(): number { return [2, 4, 8, 16, 32, 64, 128, 1][((this.divideRegister >> 1) & 4) | (this.divideRegister & 3)]!; }

  error(bits: number): void {
    const isNew = (this.pendingErrors | bits) !== this.pendingErrors;
    this.pendingErrors |= bits;
    if (!isNew || this.errorLvt & MASKED) return;
    if ((this.errorLvt & 0xff) < 16) this.pendingErrors |= 0x40;
    else this.accept(this.errorLvt & 0xff, false);
  }

  private accept(vector: number, level: boolean): void {
    this.irr.add(vector);
    if (level) this.tmr.add(vector);
    else this.tmr.delete(vector);
  }

  raise(vector: number, level: boolean): void {
    if (!this.enabled) return;
    if (vector < 16) this.error(0x40);
    else this.accept(vector, level);
  }

  private expire(): void {
    if (!(this.timerLvt & MASKED)) this.raise(this.timerLvt & 0xff, false);
  }

  /** One tick of the TSC at a time. */
  pass(ticks: number): void {
    for (let i = 0; i < ticks; i++) {
      this.now++;
      if (this.mode === 2) this.lookAtDeadline();
      else this.countOn();
    }
  }

  private countOn(): void {
    if (this.count === 0) return;
    this.fraction += 65_536;
    while (this.count > 0 && this.fraction >= this.rate * this.divide) {
      this.fraction -= this.rate * this.divide;
      this.count--;
    }
    if (this.count > 0) return;
    this.fraction = 0;
    this.expire();
    if (this.mode === 1) this.count = this.initial;
  }

  private lookAtDeadline(): void {
    if (this.deadline === 0 || this.now < this.deadline) return;
    this.deadline = 0;
    this.expire();
  }

  take(): void {
    const vector = this.deliverable;
    if (vector === null) return;
    this.irr.delete(vector);
    this.isr.add(vector);
  }

  /** The vector that IOAPICs hear of. */
  eoi(): number | null {
    const vector = ModelApic.max(this.isr);
    this.isr.delete(vector);
    return this.tmr.has(vector) && !(this.svr & 0x1000) ? vector : null;
  }

  writeSvr(value: number): void {
    this.svr = value & 0x13ff;
    if (this.enabled) return;
    this.timerLvt |= MASKED;
    this.errorLvt |= MASKED;
  }

  writeTimerLvt(value: number): void {
    const before = this.mode;
    this.timerLvt = (value & 0x700ff) | (this.enabled ? 0 : MASKED);
    if (this.mode === before) return;
    this.count = 0;
    this.deadline = 0;
  }

  writeErrorLvt(value: number): void {
    this.errorLvt = (value & 0x100ff) | (this.enabled ? 0 : MASKED);
  }

  writeInitial(value: number): void {
    if (this.mode === 2) return;
    this.initial = this.count = value;
    this.fraction = 0;
  }

  writeDivide(value: number): void {
    this.divideRegister = value & 0xb;
    this.fraction = 0;
  }

  writeDeadline(value: number): void {
    if (this.mode !== 2) return;
    this.deadline = value;
    this.lookAtDeadline();
  }

  self(vector: number): void {
    if (vector < 16) this.error(0x20);
    this.raise(vector, false);
  }

  writeEsr(): void {
    this.latchedErrors = this.pendingErrors;
    this.pendingErrors = 0;
  }
}
