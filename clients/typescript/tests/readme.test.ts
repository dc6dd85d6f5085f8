// What the README shows works as it stands there, from the package as it would be published.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
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

test("the README's program does the whole job from the package, and its types are right", { timeout: 600_000 }, async (t) => {
  const at = folder(t);
  const files = await project(at);
  const strange = files.filter((name) => !/^(dist\/src\/.*\.(js|d\.ts)|package\.json|README\.md|LICENSE)$/.test(name));
  assert.deepEqual(strange, [], "nothing else is in the package");
  const program = /```ts\n([^]*?)```/.exec(readFileSync(join(here, "README.md"), "utf8"))?.[1] ?? "";
  assert.ok(program.trim().split("\n").length <= 14, program);
  writeFileSync(join(at, "rent.mjs"), program);
  writeFileSync(join(at, "rent.mts"), program);
  const strict = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--skipLibCheck", "rent.mts"];
  await run(process.execPath, [join(here, "node_modules", "typescript", "bin", "tsc"), ...strict], { cwd: at }).catch((error: { stdout: string }) => assert.fail(error.stdout));
  const w = await world();
  try {
    const { stdout } = await run(process.execPath, ["rent.mjs"], { cwd: at, env: { ...process.env, GPU_SHOPPER_URL: w.url }, timeout: 300_000 });
    const said = /^ssh -p \d+ \S+@127\.0\.0\.1 -i (\w+\.pem)\nit has cost 0\.\d+ dollars\n$/.exec(stdout);
    assert.ok(said, stdout);
    assert.match(readFileSync(join(at, said[1] ?? ""), "utf8"), /PRIVATE KEY/);
  } finally {
    await w.close();
  }
});
