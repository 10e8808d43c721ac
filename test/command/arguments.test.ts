import { describe, expect, it } from "vitest";
import { complaints, file, understudy } from "./command.ts";

const verbs = ["check", "start", "launch", "console", "status", "events", "stop", "handover", "eject", "vanish"];

describe("understudy", () => {
  it("tells its verbs with --help", () => {
    const run = understudy("--help");
    expect(run.exitCode).toBe(0);
    for (const verb of verbs) expect(run.output).toContain(`understudy ${verb}`);
  });

  it.each(verbs)("%s --help says how it is used and does nothing", (verb) => {
    const run = understudy(verb, "--help");
    expect(run).toMatchObject({ exitCode: 0, errors: "" });
    expect(run.output).toMatch(new RegExp(`^understudy ${verb} `));
  });

  it.each([
    { args: [], says: "say what to do: see understudy --help" },
    { args: ["dance"], says: "no verb 'dance': see understudy --help" },
    { args: ["status", "--loud"], says: "status: no option --loud: see understudy status --help" },
    { args: ["status", "2"], says: "status: '2' is one argument too many: see understudy status --help" },
    { args: ["stop"], says: "stop: of which instance? see understudy stop --help" },
    { args: ["stop", "two"], says: "instance two: a number from 1 to 2 is needed" },
    { args: ["stop", "0"], says: "instance 0: a number from 1 to 2 is needed" },
    { args: ["stop", "3"], says: "instance 3: a number from 1 to 2 is needed" },
    { args: ["stop", "2", "1"], says: "stop: '1' is one argument too many: see understudy stop --help" },
    { args: ["eject"], says: "eject: say which PCI function, for example 01:00.0" },
    { args: ["eject", "1:2"], says: "eject: '1:2' is no PCI function: write for example 01:00.0 or 01:00.0,02:00.0" },
    { args: ["eject", "01:00.0,02:00.0"], says: "eject: give one PCI function, for example 01:00.0" },
    { args: ["handover", "--hide", "x"], says: "--hide: 'x' is no PCI function: write for example 01:00.0 or 01:00.0,02:00.0" },
    { args: ["console"], says: "console: of which instance? see understudy console --help" },
    { args: ["start", "--image"], says: "start: --image needs a value" },
    { args: ["check", "--from", "a", "--from", "b"], says: "check: --from is given twice" },
  ])("refuses $args in one line", ({ args, says }) => {
    const run = understudy(...args);
    expect(run.exitCode).toBe(2);
    expect(complaints(run)).toEqual([says]);
    expect(run.output).toBe("");
  });
});

describe("on a machine with no VMM beneath", () => {
  it("status says that it is bare", () => {
    expect(understudy("status")).toMatchObject({ exitCode: 0, output: "bare: no VMM is beneath this kernel\n" });
    expect(JSON.parse(understudy("status", "--json").output)).toEqual({ state: "bare" });
  });

  it.each([["vanish"], ["handover"], ["eject", "01:00.0"], ["events"], ["stop", "2"], ["console", "2"]])("%s %s refuses", (...args) => {
    const run = understudy(...args.filter((argument) => argument !== undefined));
    expect(run.exitCode).toBe(1);
    expect(complaints(run)).toEqual(["bare: no VMM is beneath this kernel: understudy start first"]);
  });
});

describe("start", () => {
  it("refuses an image that is not there", () => {
    const run = understudy("start", "--image", "/nowhere/vmm.img");
    expect(run.exitCode).toBe(1);
    expect(complaints(run)).toEqual(["image /nowhere/vmm.img: No such file or directory"]);
  });

  it("refuses a file that is no VMM", () => {
    const path = file("x".repeat(8192));
    const run = understudy("start", "--image", path);
    expect(run.exitCode).toBe(1);
    expect(complaints(run)).toEqual([`image ${path}: not a VMM`]);
  });

  it("refuses an empty file", () => {
    const path = file("");
    expect(complaints(understudy("start", "--image", path))).toEqual([`image ${path}: not a VMM`]);
  });
});
