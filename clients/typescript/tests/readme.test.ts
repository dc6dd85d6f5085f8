// What the README shows works as it stands there, from the package as it would be published.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { folder, world } from "./world.js";

const run = promisify(execFile);
const here = fileURLToPath(new URL("../..", import.meta.url));

/** A project that has the package installed, packed from what was built, and what it needs beside it. */
async function project(at: string): Promise<string[]> {
  const packed = await run("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", at], { cwd: here });
  const [{ filename, files }] = JSON.parse(packed.stdout) as [{ filename: string; files: { path: string }[] }];
  mkdirSync(join(at, "node_modules", "@gpu-shopper", "client"), { recursive: true });
  await run("tar", ["-xzf", join(at, filename), "-C", join(at, "node_modules", "@gpu-shopper", "client"), "--strip-components=1"]);
  for (const name of readdirSync(join(here, "node_modules")).filter((n) => !n.startsWith("."))) symlinkSync(join(here, "node_modules", name), join(at, "node_modules", name));
  return files.map((file) => file.path);
}

const [rent = "", watch = "", follow = ""] = [...readFileSync(join(here, "README.md"), "utf8").matchAll(/```ts\n([^]*?)```/g)].map((found) => found[1] ?? "");

test("the README's programs do what they say from the package, and their types are right", { timeout: 900_000 }, async (t) => {
  const at = folder(t);
  const files = await project(at);
  const strange = files.filter((name) => !/^(dist\/src\/.*\.(js|d\.ts)|package\.json|README\.md|LICENSE)$/.test(name));
  assert.deepEqual(strange, [], "nothing else is in the package");
  for (const [name, program] of Object.entries({ rent, watch, follow })) {
    assert.ok(program !== "" && program.trim().split("\n").length <= 21, program);
    writeFileSync(join(at, `${name}.mjs`), program);
    writeFileSync(join(at, `${name}.mts`), program);
  }
  const strict = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--skipLibCheck", "rent.mts", "watch.mts", "follow.mts"];
  await run(process.execPath, [join(here, "node_modules", "typescript", "bin", "tsc"), ...strict], { cwd: at }).catch((error: { stdout: string }) => assert.fail(error.stdout));
  const w = await world();
  const env = { ...process.env, GPU_SHOPPER_URL: w.url };
  /** What the program that follows all sessions prints up to a line; it is ended once it has kept its token. */
  const following = async (last: RegExp) => {
    const program = spawn(process.execPath, ["follow.mjs"], { cwd: at, env, stdio: ["ignore", "pipe", "inherit"] });
    const lines: string[] = [];
    for await (const line of createInterface({ input: program.stdout })) {
      lines.push(line);
      if (last.test(line)) break;
    }
    const kept = join(at, "watch.token");
    while (!existsSync(kept) || readFileSync(kept, "utf8") === "") await setTimeout(20);
    const gone = once(program, "exit");
    program.kill("SIGKILL");
    await gone;
    return lines;
  };
  try {
    assert.equal((await following(/^0 open sessions, \$0/)).length, 1);
    const { stdout } = await run(process.execPath, ["rent.mjs"], { cwd: at, env, timeout: 300_000 });
    const said = /^ssh -p \d+ \S+@127\.0\.0\.1 -i (\w+)\.pem\nit has cost 0\.\d+ dollars\n$/.exec(stdout);
    assert.ok(said, stdout);
    const sessionId = said[1] ?? "";
    assert.match(readFileSync(join(at, `${sessionId}.pem`), "utf8"), /PRIVATE KEY/);
    // It goes on with what happened since, to the last.
    const lines = await following(new RegExp(`^${sessionId} STOPPED: `));
    assert.deepEqual(lines.filter((line) => !line.startsWith(`${sessionId} `)), []);
    const watched = await run(process.execPath, ["watch.mjs"], { cwd: at, env, timeout: 300_000 });
    assert.match(watched.stdout, /^PENDING: [^]*\n0\.\d+ dollars per hour, which is \$0\.\d+\/h\n[^]*\nSTOPPED: .*\nit has cost 0\.\d+ dollars\n$/);
  } finally {
    await w.close();
  }
});
