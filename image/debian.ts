import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { cacheDir } from "./paths.ts";
import { UserError, atomically, run, runText } from "./tools.ts";

/** A Debian package, unpacked and not installed: its files are at `dir`, its control file in `dir`/DEBIAN. */
export interface DebianPackage {
  name: string;
  version: string;
  dir: string;
}

const aptDir = join(cacheDir, "apt");
const packagesDir = join(cacheDir, "packages");
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** Suites that we take packages from. Where several have a package, the highest priority wins. */
const suites = [
  { archive: "debian", suite: "bookworm", priority: 900 },
  { archive: "debian-security", suite: "bookworm-security", priority: 900 },
  { archive: "debian", suite: "bookworm-backports", priority: 500 },
  { archive: "debian", suite: "trixie", priority: 400 },
  { archive: "debian-security", suite: "trixie-security", priority: 400 },
];

const mirror = process.env.DEBIAN_MIRROR ?? "http://deb.debian.org";

/** Writes an apt configuration of our own, so that the system's is neither used nor touched; returns its path. */
function aptConfig(): string {
  for (const dir of ["etc", "state/lists/partial", "cache/archives/partial"]) {
    mkdirSync(join(aptDir, dir), { recursive: true });
  }
  const write = (name: string, lines: string[]) => writeFileSync(join(aptDir, name), lines.map((line) => line + "\n").join(""));
  write("etc/sources.list", suites.map(({ archive, suite }) => `deb [signed-by=${keyring}] ${mirror}/${archive} ${suite} main`));
  write("etc/preferences", suites.map(({ suite, priority }) => `Package: *\nPin: release n=${suite}\nPin-Priority: ${priority}\n`));
  write("status", []);
  write("apt.conf", [
    `Dir "${aptDir}";`,
    `Dir::Etc "${aptDir}/etc";`,
    `Dir::Etc::parts "/dev/null";`,
    `Dir::Etc::preferencesparts "/dev/null";`,
    `Dir::Etc::sourceparts "/dev/null";`,
    `Dir::State "${aptDir}/state";`,
    `Dir::State::status "${aptDir}/status";`,
    `Dir::Cache "${aptDir}/cache";`,
    `Dir::Log "${aptDir}";`,
    `APT::Architecture "amd64";`,
    // The download must be able to read our folder, wherever the user keeps it.
    `APT::Sandbox::User "";`,
    `Acquire::Languages "none";`,
    `Acquire::Retries "3";`,
  ]);
  return join(aptDir, "apt.conf");
}

/** Runs one of apt's commands with our configuration, after those of other processes in this tree: apt itself does not wait. */
export function apt(command: string, args: string[], cwd = aptDir): string {
  return runText("flock", [join(aptDir, "lock"), command, ...args], { cwd, env: { APT_CONFIG: join(aptDir, "apt.conf") } });
}

let updated = false;

/** Brings the package lists up to date, once a run and only if something must be downloaded. */
export function updateLists(): void {
  if (updated) return;
  aptConfig();
  console.log("Debian: fetching package lists");
  apt("apt-get", ["-q", "update", "-o", "APT::Update::Error-Mode=any"]);
  updated = true;
}

/** True if some suite has the package. A name may carry a suite, as in `linux-image-amd64/trixie`. */
function isKnown(request: string): boolean {
  try {
    return apt("apt-cache", ["show", "--no-all-versions", request]).includes("Package: ");
  } catch {
    return false;
  }
}

/**
 * Downloads and unpacks a package, without its dependencies. A name may carry a suite (`bochs/trixie`).
 * A package that was fetched before is found in the cache, with no network.
 */
export function getPackage(request: string): DebianPackage {
  if (!/^[a-z0-9][a-z0-9+.-]*(\/[a-z-]+)?$/.test(request)) throw new UserError(`'${request}' is not a Debian package name`);
  const link = join(packagesDir, "by-name", request.replace("/", "@"));
  if (!existsSync(link)) download(request, link);
  const dir = join(packagesDir, basename(readlinkSync(link)));
  return { name: controlField(dir, "Package"), version: controlField(dir, "Version"), dir };
}

function download(request: string, link: string): void {
  updateLists();
  if (!isKnown(request)) throw new UserError(`no Debian package '${request}' in ${suites.map((s) => s.suite).join(", ")}`);
  console.log(`Debian: fetching ${request}`);
  const work = join(packagesDir, `download-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    apt("apt-get", ["-q", "download", request], work);
    const deb = readdirSync(work).find((name) => name.endsWith(".deb"));
    if (!deb) throw new UserError(`apt-get download ${request} brought nothing`);
    const [name, version] = deb.split("_");
    const dir = join(packagesDir, `${name}_${decodeURIComponent(version!).replace(/[:~]/g, "-")}`);
    if (!existsSync(dir)) atomically(dir, (temporary) => void run("dpkg-deb", ["--raw-extract", join(work, deb), temporary]));
    mkdirSync(join(packagesDir, "by-name"), { recursive: true });
    rmSync(link, { force: true });
    symlinkSync(join("..", basename(dir)), link);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** A field of an unpacked package's control file, or "" if it has none. */
function controlField(dir: string, field: string): string {
  const control = readFileSync(join(dir, "DEBIAN", "control"), "utf8");
  return new RegExp(`^${field}: (.*)$`, "m").exec(control)?.[1] ?? "";
}

/** Names of the packages that an unpacked package depends on (the first of alternatives). */
export function dependencies({ dir }: DebianPackage): string[] {
  return controlField(dir, "Depends")
    .split(",")
    .map((one) => one.trim().split(/[\s|:(]/)[0]!)
    .filter((name) => name !== "");
}

/**
 * Unpacks packages of one suite with everything that they depend on into one folder,
 * whose programs then run through the folder's own loader, whatever the host's libraries are.
 */
export function unpackTree(suite: string, names: string[], target: string): void {
  updateLists();
  const archives = `${target}.debs-${process.pid}`;
  mkdirSync(join(archives, "partial"), { recursive: true });
  console.log(`Debian: fetching ${names.join(", ")} from ${suite} with dependencies`);
  apt("apt-get", ["-q", "-y", "-t", suite, "--no-install-recommends", "--download-only", "-o", `Dir::Cache::archives=${archives}`, "install", ...names]);
  atomically(target, (temporary) => {
    for (const deb of readdirSync(archives).filter((name) => name.endsWith(".deb"))) {
      run("dpkg-deb", ["--extract", join(archives, deb), temporary]);
    }
  });
  rmSync(archives, { recursive: true, force: true });
}
