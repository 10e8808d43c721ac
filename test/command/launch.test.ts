import { availableParallelism } from "node:os";
import { describe, expect, it } from "vitest";
import { complaints, file, understudy } from "./command.ts";

const MiB = 1 << 20;

interface Header {
  setupSectors: number;
  bootFlag: number;
  magic: string;
  version: number;
  relocatable: number;
  loadFlags: number;
  commandLineSize: number;
  initSize: number;
}

const stock: Header = {
  setupSectors: 39,
  bootFlag: 0xaa55,
  magic: "HdrS",
  version: 0x20f,
  relocatable: 1,
  loadFlags: 0x7f,
  commandLineSize: 2047,
  initSize: 64 * MiB,
};

/** A file with a bzImage's header, after Linux's own, and nothing to run. */
function bzImage(changes: Partial<Header> = {}, size = 64 * 1024): string {
  const header = { ...stock, ...changes };
  const data = Buffer.alloc(size);
  data.writeUInt8(header.setupSectors, 0x1f1);
  data.writeUInt16LE(header.bootFlag, 0x1fe);
  data.write(header.magic, 0x202, "latin1");
  data.writeUInt16LE(header.version, 0x206);
  data.writeUInt8(header.relocatable, 0x234);
  data.writeUInt16LE(header.loadFlags, 0x236);
  data.writeUInt32LE(header.commandLineSize, 0x238);
  data.writeUInt32LE(header.initSize, 0x260);
  return file(data);
}

interface Request {
  kernel?: string;
  initrd?: string;
  append?: string;
  memory?: string;
  cpus?: string;
}

function launch({
  kernel = bzImage(),
  initrd = file("initrd"),
  append = "console=ttyS0",
  memory = "256M",
  cpus = "1",
}: Request = {}) {
  return understudy("launch", "--kernel", kernel, "--initrd", initrd, "--append", append, "--memory", memory, "--cpus", cpus);
}

function refusal(request: Request): string {
  const run = launch(request);
  expect(run.exitCode).not.toBe(0);
  expect(run.output).toBe("");
  expect(complaints(run)).toHaveLength(1);
  return complaints(run)[0]!;
}

/** What it says of a good request with something more. */
function launchWith(...more: string[]): string {
  const run = understudy("launch", "--kernel", bzImage(), "--initrd", file("initrd"), "--append", "", "--memory", "256M", "--cpus", "1", ...more);
  expect(run.exitCode).not.toBe(0);
  return complaints(run)[0]!;
}

describe("launch", () => {
  it("finds nothing wrong with a good request but that no VMM is beneath", () => {
    expect(refusal({})).toBe("bare: no VMM is beneath this kernel: understudy start first");
  });

  it.each(["--kernel", "--initrd", "--append", "--memory"])("needs %s", (missing) => {
    const args = ["--kernel", bzImage(), "--initrd", file("initrd"), "--append", "", "--memory", "256M", "--cpus", "1"];
    args.splice(args.indexOf(missing), 2);
    const run = understudy("launch", ...args);
    expect(run.exitCode).toBe(2);
    expect(complaints(run)).toEqual([`launch: ${missing} is missing: see understudy launch --help`]);
  });

  it.runIf(availableParallelism() > 1)("needs --cpus or --share where there are several CPUs", () => {
    const run = understudy("launch", "--kernel", bzImage(), "--initrd", file("initrd"), "--append", "", "--memory", "256M");
    expect(run.exitCode).toBe(2);
    expect(complaints(run)).toEqual(["launch: --cpus is missing, or --share: see understudy launch --help"]);
  });

  it("has no weight but of a share", () => {
    expect(launchWith("--weight", "3")).toBe("launch: --weight is of a share: give --share, too");
  });

  it.each([[["--share"]], [["--share", "0"]], [["--share", "0,2"]], [["--share", "0-3,5", "--weight", "3"]], [["--share", "--weight", "3"]]])("takes %j beside whole CPUs", (more) => {
    expect(launchWith(...more)).toMatch(/^bare:/);
  });

  it.each([
    ["two", "not a list of CPUs: write for example 0,2 or 1-3"], ["0,", "not a list of CPUs: write for example 0,2 or 1-3"], ["3-1", "not a list of CPUs: write for example 0,2 or 1-3"],
    ["1;2", "not a list of CPUs: write for example 0,2 or 1-3"], ["0-", "not a list of CPUs: write for example 0,2 or 1-3"], ["32", "CPUs have numbers from 0 to 31"], ["30-32", "CPUs have numbers from 0 to 31"],
    ["99999999999999999999", "not a list of CPUs: write for example 0,2 or 1-3"], ["1,1", "CPU 1 is named twice"], ["0-2,1", "CPU 1 is named twice"],
  ])("refuses --share '%s'", (shares, says) => {
    expect(launchWith("--share", shares)).toBe(`--share ${shares}: ${says}`);
  });

  it("gives no device with a share", () => {
    expect(launchWith("--share", "--device", "01:00.0")).toBe("launch: --device: not with a share: its interrupts would come to this kernel; give whole CPUs alone");
  });

  it("has no device with a share", () => {
    const run = understudy("launch", "--kernel", bzImage(), "--initrd", file("initrd"), "--append", "", "--memory", "256M", "--share", "--device", "00:03.0");
    expect(run.exitCode).toBe(2);
    expect(complaints(run)).toEqual(["launch: --device: not with a share: its interrupts would come to this kernel; give whole CPUs alone"]);
  });

  it.each(["", "M", "-1M", "256X", "256MB", "0", "1e9", "99999999999999999999G"])("refuses --memory '%s'", (memory) => {
    expect(refusal({ memory })).toBe(`--memory ${memory}: not a size: write for example 256M or 1G`);
  });

  it.each(["", "-1", "32", "two", "1.5"])("refuses --cpus '%s'", (cpus) => {
    expect(refusal({ cpus })).toBe(`--cpus ${cpus}: a number from 0 to 31 is needed`);
  });

  describe("refuses a kernel", () => {
    it("that is not there", () => {
      expect(refusal({ kernel: "/nowhere/vmlinuz" })).toBe("--kernel /nowhere/vmlinuz: No such file or directory");
    });

    it("that is a folder", () => {
      expect(refusal({ kernel: "/tmp" })).toBe("--kernel /tmp: not a file");
    });

    it.each([
      { why: "is no bzImage", changes: { magic: "ELF!" }, says: "not a bzImage: give a /boot/vmlinuz-... file" },
      { why: "has no boot flag", changes: { bootFlag: 0 }, says: "not a bzImage: give a /boot/vmlinuz-... file" },
      {
        why: "is too old",
        changes: { version: 0x20b },
        says: "boot protocol 2.11 is older than 2.12: give a newer kernel",
      },
      { why: "has no 64-bit entry", changes: { loadFlags: 0 }, says: "no 64-bit entry: give a 64-bit kernel" },
      {
        why: "can't be moved",
        changes: { relocatable: 0 },
        says: "not relocatable: give a kernel with CONFIG_RELOCATABLE",
      },
    ])("that $why", ({ changes, says }) => {
      const kernel = bzImage(changes);
      expect(refusal({ kernel })).toBe(`--kernel ${kernel}: ${says}`);
    });

    it("that is cut short", () => {
      const kernel = bzImage({}, 20_000);
      expect(refusal({ kernel })).toBe(`--kernel ${kernel}: cut short: its setup alone has 20480 bytes`);
    });

    it("that ends within its header", () => {
      const kernel = file(Buffer.alloc(0x200));
      expect(refusal({ kernel })).toBe(`--kernel ${kernel}: not a bzImage: give a /boot/vmlinuz-... file`);
    });
  });

  it("refuses an initrd that is not there, or empty", () => {
    expect(refusal({ initrd: "/nowhere/initrd" })).toBe("--initrd /nowhere/initrd: No such file or directory");
    const initrd = file("");
    expect(refusal({ initrd })).toBe(`--initrd ${initrd}: empty`);
  });

  it("refuses memory that kernel and initrd do not fit into", () => {
    const says = "--memory: 64 MiB is too small: kernel and initrd alone need 80.0 MiB";
    expect(refusal({ memory: "64M" })).toBe(says);
    expect(refusal({ memory: "65536K" })).toBe(says);
  });

  it("takes the kernel's own size when its header claims less", () => {
    const kernel = bzImage({ initSize: 4096 }, 4 * MiB);
    expect(refusal({ kernel, memory: "16M" })).toMatch(/^--memory: 16 MiB is too small: kernel and initrd alone need 20\.0 MiB$/);
  });

  it("refuses a command line that does not fit with what it adds", () => {
    expect(refusal({ append: "x".repeat(2040) })).toBe(
      "--append: the command line would have 2050 characters: at most 2047 fit",
    );
    expect(refusal({ append: "x".repeat(100_000) })).toBe(
      "--append: the command line would have 100010 characters: at most 2047 fit",
    );
    const kernel = bzImage({ commandLineSize: 255 });
    expect(refusal({ kernel, append: "x".repeat(250) })).toBe(
      "--append: the command line would have 260 characters: at most 255 fit",
    );
  });

  it("adds nothing that the command line says already", () => {
    const kernel = bzImage({ commandLineSize: 16 });
    expect(refusal({ kernel, append: "quiet maxcpus=1" })).toMatch(/^bare:/);
  });
});
