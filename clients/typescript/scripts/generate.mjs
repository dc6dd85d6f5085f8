// Makes src/gen from the contract; with --check it compares instead and fails when they differ.
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = join(dirname(fileURLToPath(import.meta.url)), "..");
const kept = join(here, "src/gen");
const made = mkdtempSync(join(tmpdir(), "gpu-shopper-gen-"));

const files = (root) => {
  try {
    const entries = readdirSync(root, { recursive: true, withFileTypes: true });
    const paths = entries.filter((e) => e.isFile()).map((e) => join(e.parentPath ?? e.path, e.name).slice(root.length + 1));
    return new Map(paths.sort().map((p) => [p, readFileSync(join(root, p), "utf8")]));
  } catch {
    return new Map();
  }
};

try {
  execFileSync(join(here, "node_modules/.bin/buf"), ["generate", "--output", made], {
    cwd: here,
    stdio: "inherit",
    env: { ...process.env, PATH: `${join(here, "node_modules/.bin")}:${process.env.PATH}` },
  });
  const fresh = join(made, "src/gen");
  if (process.argv.includes("--check")) {
    const [want, have] = [files(fresh), files(kept)];
    const stale = [...new Set([...want.keys(), ...have.keys()])].filter((p) => want.get(p) !== have.get(p));
    if (want.size === 0 || stale.length > 0) {
      console.error(`not what proto/ says: ${stale.join(", ")}; run \`make clients\` and commit what it wrote`);
      process.exitCode = 1;
    }
  } else {
    rmSync(kept, { recursive: true, force: true });
    cpSync(fresh, kept, { recursive: true });
  }
} finally {
  rmSync(made, { recursive: true, force: true });
}
